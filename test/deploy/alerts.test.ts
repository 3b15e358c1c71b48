import { expect, setDefaultTimeout, test } from "bun:test";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createFolder } from "../commands/run-parley.ts";
import { type AlertCase, alertCases } from "./alert-cases.ts";
import { monitoringFolder } from "./compose-file.ts";
import { findUnknownNames } from "./metric-names.ts";
import { findProgram } from "./programs.ts";
import { runProgram } from "./run-program.ts";
import { readYaml } from "./yaml-file.ts";

setDefaultTimeout(30_000);

type Rule = {
  alert: string;
  expr: string;
  for?: string;
  labels: { severity: string };
  annotations: { summary: string; runbook: string };
};

const rulesPath = join(monitoringFolder, "alerts.yml");
const [content] = readYaml(rulesPath) as [{ groups: { rules: Rule[] }[] }];
const rules = content.groups.flatMap((group) => group.rules);
const promtool = findProgram("promtool");

test("every rule has a severity, a summary and a test case", () => {
  expect(rules.length).toBeGreaterThan(15);
  expect(rules.map(({ alert }) => alert).sort()).toEqual(Object.keys(alertCases).sort());
  for (const { labels, annotations } of rules) {
    expect(["critical", "warning"]).toContain(labels.severity);
    expect(annotations.summary).toEndWith(".");
  }
});

test("docs/monitoring.md explains what to do about each alert", () => {
  const guide = readFileSync(join(monitoringFolder, "../../docs/monitoring.md"), "utf8");
  for (const { alert, annotations } of rules) {
    expect(annotations.runbook).toBe(`docs/monitoring.md#${alert.toLowerCase()}`);
    const section = guide.split(/^### /m).find((part) => part.startsWith(`${alert}\n`)) ?? "";
    expect({ alert, isLong: section.length > 150 }).toEqual({ alert, isLong: true });
  }
  const describedAlerts = [...guide.matchAll(/^### (Parley\w+)$/gm)].map(([, name]) => name);
  expect(describedAlerts.sort()).toEqual(rules.map(({ alert }) => alert).sort() as never);
});

test("the alerts' expressions use only series and labels that /metrics exposes", () => {
  for (const { alert, expr } of rules)
    expect({ alert, unknown: findUnknownNames(expr) }).toEqual({ alert, unknown: [] });
  expect(findUnknownNames('rate(parley_messages_sum{role="user"}[5m])')).toEqual(["no series parley_messages_sum"]);
  expect(findUnknownNames('parley_messages_total{rol="user"}')).toEqual(["parley_messages_total has no label rol"]);
  expect(findUnknownNames("sum by (rol) (parley_messages_total)")).toEqual(["no series has the label rol"]);
});

/** Creates a promtool check that the alert is, or isn't, firing at a given minute. */
const createFiringCheck = (alert: string, minute: number, isFiring: boolean) => ({
  expr: `count(ALERTS{alertname="${alert}",alertstate="firing"})`,
  eval_time: `${minute}m`,
  exp_samples: isFiring ? [{ labels: "{}", value: 1 }] : [],
});
const toInputSeries = (series: Record<string, string>) =>
  Object.entries(series).map(([name, values]) => ({ series: name, values }));

const createFiringTest = (
  alert: string,
  { stepMin = 1, firingSeries, exceededMin, earlyMin, resolvedMin }: AlertCase,
) => ({
  interval: `${stepMin}m`,
  input_series: toInputSeries(firingSeries),
  promql_expr_test: [
    ...(earlyMin === undefined ? [] : [createFiringCheck(alert, earlyMin, false)]),
    createFiringCheck(alert, exceededMin, true),
    createFiringCheck(alert, resolvedMin, false),
  ],
});
const createQuietTest = (alert: string, { stepMin = 1, quietSeries, exceededMin, resolvedMin }: AlertCase) => ({
  interval: `${stepMin}m`,
  input_series: toInputSeries(quietSeries),
  promql_expr_test: [exceededMin, Math.round((exceededMin + resolvedMin) / 2), resolvedMin].map((minute) =>
    createFiringCheck(alert, minute, false),
  ),
});

type RuleTest = ReturnType<typeof createFiringTest>;

/** Runs the tests with promtool. Tests with the same interval share a file, because a file has only one evaluation interval. */
async function runRuleTests(tests: RuleTest[], text = readFileSync(rulesPath, "utf8")) {
  using folder = createFolder();
  writeFileSync(join(folder.path, "alerts.yml"), text);
  const paths = [...Map.groupBy(tests, ({ interval }) => interval)].map(([interval, intervalTests]) => {
    const path = join(folder.path, `${interval}.yml`);
    // Every JSON document is valid YAML.
    writeFileSync(
      path,
      JSON.stringify({ rule_files: ["alerts.yml"], evaluation_interval: interval, tests: intervalTests }),
    );
    return path;
  });
  return await runProgram([promtool, "test", "rules", ...paths]);
}

test("each alert fires after its delay and resolves later", async () => {
  const { code, output } = await runRuleTests(
    Object.entries(alertCases).map(([alert, alertCase]) => createFiringTest(alert, alertCase)),
  );
  expect({ code, output }).toMatchObject({ code: 0, output: expect.stringContaining("SUCCESS") });
});

test("no alert fires while its series stay within the alert's limit", async () => {
  const { code, output } = await runRuleTests(
    Object.entries(alertCases).map(([alert, alertCase]) => createQuietTest(alert, alertCase)),
  );
  expect({ code, output }).toMatchObject({ code: 0, output: expect.stringContaining("SUCCESS") });
});

test("every alert's test case fails if the rule never fires or always fires", async () => {
  const changeRules = (mutate: (expr: string) => string) =>
    JSON.stringify({ groups: [{ name: "x", rules: rules.map(({ alert, expr }) => ({ alert, expr: mutate(expr) })) }] });
  const cases = Object.entries(alertCases);
  const neverFiringResult = await runRuleTests(
    cases.map(([alert, alertCase]) => createFiringTest(alert, alertCase)),
    changeRules((expr) => `(${expr}) and vector(1) == 2`),
  );
  const alwaysFiringResult = await runRuleTests(
    cases.map(([alert, alertCase]) => createQuietTest(alert, alertCase)),
    changeRules(() => "vector(1)"),
  );
  for (const { code, output } of [neverFiringResult, alwaysFiringResult]) {
    expect(code).toBe(1);
    for (const { alert } of rules) expect(output).toContain(alert);
  }
});
