import { expect, setDefaultTimeout, test } from "bun:test";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type Static, Type } from "@sinclair/typebox";
import { Value } from "@sinclair/typebox/value";
import { createFolder } from "../commands/run-parley.ts";
import { monitoringFolder } from "./compose-file.ts";
import { findUnknownNames } from "./metric-names.ts";
import { findProgram } from "./programs.ts";
import { runProgram } from "./run-program.ts";

setDefaultTimeout(30_000);

const Position = Type.Object({
  x: Type.Integer({ minimum: 0, maximum: 23 }),
  y: Type.Integer({ minimum: 0 }),
  w: Type.Integer({ minimum: 1, maximum: 24 }),
  h: Type.Integer({ minimum: 1 }),
});
const DataSource = Type.Object({ type: Type.Literal("prometheus"), uid: Type.Literal("$" + "{datasource}") });
const Row = Type.Object({
  id: Type.Integer(),
  type: Type.Literal("row"),
  title: Type.String({ minLength: 1 }),
  gridPos: Position,
});
const Panel = Type.Object({
  id: Type.Integer(),
  type: Type.Union([Type.Literal("timeseries"), Type.Literal("stat")]),
  title: Type.String({ minLength: 1 }),
  datasource: DataSource,
  gridPos: Position,
  fieldConfig: Type.Object({ defaults: Type.Object({ unit: Type.String() }) }),
  targets: Type.Array(
    Type.Object({
      refId: Type.String({ pattern: "^[A-Z]$" }),
      datasource: DataSource,
      expr: Type.String({ minLength: 1 }),
      legendFormat: Type.String({ minLength: 1 }),
    }),
    { minItems: 1 },
  ),
});
/** The part of Grafana's dashboard schema that this dashboard uses. */
const Dashboard = Type.Object({
  uid: Type.String({ pattern: "^[\\w-]{1,40}$" }),
  title: Type.String(),
  schemaVersion: Type.Integer({ minimum: 36 }),
  templating: Type.Object({
    list: Type.Array(Type.Object({ name: Type.String(), type: Type.String(), query: Type.Unknown() })),
  }),
  time: Type.Object({ from: Type.String(), to: Type.String() }),
  panels: Type.Array(Type.Union([Row, Panel])),
});

const dashboard = JSON.parse(readFileSync(join(monitoringFolder, "parley-dashboard.json"), "utf8")) as Static<
  typeof Dashboard
>;
const panels = dashboard.panels.filter((panel): panel is Static<typeof Panel> => panel.type !== "row");
const expressions = panels.flatMap(({ title, targets }) => targets.map(({ expr }) => ({ title, expr })));

test("the dashboard matches Grafana's schema", () => {
  expect([...Value.Errors(Dashboard, dashboard)]).toEqual([]);
  const ids = dashboard.panels.map(({ id }) => id);
  expect(new Set(ids).size).toBe(ids.length);
  expect(dashboard.templating.list.map(({ name, type }) => [name, type])).toEqual([
    ["datasource", "datasource"],
    ["instance", "query"],
  ]);
  for (const { title, targets } of panels)
    expect({ title, ids: new Set(targets.map(({ refId }) => refId)).size }).toEqual({ title, ids: targets.length });
});

test("the dashboard's panels don't overlap", () => {
  const occupiedCells = new Map<string, string>();
  for (const { title, gridPos } of dashboard.panels) {
    expect(gridPos.x + gridPos.w).toBeLessThanOrEqual(24);
    for (let x = gridPos.x; x < gridPos.x + gridPos.w; x += 1)
      for (let y = gridPos.y; y < gridPos.y + gridPos.h; y += 1) {
        expect({ title, overlappedPanel: occupiedCells.get(`${x},${y}`) }).toEqual({
          title,
          overlappedPanel: undefined,
        });
        occupiedCells.set(`${x},${y}`, title);
      }
  }
});

test("the dashboard's expressions use only series and labels that /metrics exposes", () => {
  expect(expressions.length).toBeGreaterThan(35);
  for (const { title, expr } of expressions)
    expect({ title, unknown: findUnknownNames(expr) }).toEqual({ title, unknown: [] });
});

test("the dashboard's legends use only labels that their expressions return", () => {
  for (const { title, targets } of panels)
    for (const { expr, legendFormat } of targets)
      for (const [, label = ""] of legendFormat.matchAll(/\{\{(\w+)\}\}/g))
        expect({ title, label, hasLabel: new RegExp(`\\bby \\([^)]*\\b${label}\\b|^process_`).test(expr) }).toEqual({
          title,
          label,
          hasLabel: true,
        });
});

/** Checks expressions with promtool after replacing Grafana's variables with values. */
async function checkExpressions(list: readonly string[]) {
  using folder = createFolder();
  const path = join(folder.path, "rules.yml");
  const fillVariables = (expr: string) => expr.replaceAll("$__rate_interval", "5m").replaceAll("$instance", "a|b");
  const rules = list.map((expr, index) => ({ record: `panel:number:${index}`, expr: fillVariables(expr) }));
  writeFileSync(path, JSON.stringify({ groups: [{ name: "panels", rules }] }));
  return await runProgram([findProgram("promtool"), "check", "rules", path]);
}

test("Prometheus can parse the dashboard's expressions", async () => {
  const { code, output } = await checkExpressions(expressions.map(({ expr }) => expr));
  expect({ code, output }).toMatchObject({ code: 0, output: expect.stringContaining(`${expressions.length} rules`) });
  expect((await checkExpressions(["sum(rate(parley_messages_total))"])).output).toContain("expected type range vector");
});

test("the dashboard shows every documented metric", () => {
  const allExpressions = expressions.map(({ expr }) => expr).join("\n");
  const documentedMetrics = [
    ...["http_request_duration_seconds", "ws_connections", "ws_frames_total", "messages_total"],
    ...["message_commit_duration_seconds", "generations_total", "generation_first_token_seconds"],
    ...["generation_duration_seconds", "ai_tokens_total", "ai_failovers_total", "webhook_deliveries_total"],
    ...["db_pool_connections", "rate_limited_total", "bus_messages_total", "event_loop_lag_seconds", "build_info"],
  ];
  for (const name of documentedMetrics)
    expect({ name, isShown: allExpressions.includes(`parley_${name}`) }).toEqual({ name, isShown: true });
});
