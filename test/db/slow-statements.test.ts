import { afterAll, beforeAll, expect, test } from "bun:test";
import pino from "pino";
import type { Database } from "../../src/db/client.ts";
import { connectDatabase } from "../../src/db/connect.ts";
import { createSlowStatementLog } from "../../src/db/slow-statements.ts";
import { createTestDatabase } from "../support/postgres.ts";

type LogLine = { level: number; msg: string; sql: string; duration_ms: number; omitted?: number };

function captureLog() {
  const lines: LogLine[] = [];
  return { lines, log: pino({ level: "info" }, { write: (line: string) => void lines.push(JSON.parse(line)) }) };
}

const SLOW_MS = 50;
const { lines, log } = captureLog();
const waitsMs: number[] = [];
let database: Database;
let close: () => Promise<void>;
beforeAll(async () => {
  const { name, target, database: setupDatabase } = await createTestDatabase();
  await setupDatabase.end();
  const url = `postgres://${target.user}@/${name}?host=${target.socketDirectory}`;
  const config = { DATABASE_URL: url, DATABASE_POOL_SIZE: 2, DATABASE_SLOW_QUERY_MS: SLOW_MS, DATA_DIR: "" };
  ({ database, close } = await connectDatabase(config, log, { onWait: (waitMs) => void waitsMs.push(waitMs) }));
});
afterAll(() => close());

const takeSlowQueryLines = () => lines.splice(0).filter(({ msg }) => msg === "slow query");

test("logs a slow statement with its SQL and duration but without its parameters", async () => {
  await database`select ${"quick"}::text`;
  await database`
    select ${"a secret of the user"}::text as text,
      pg_sleep(${SLOW_MS / 1_000}::float8)`;
  const [line, ...others] = takeSlowQueryLines();
  expect(others).toEqual([]);
  expect(line).toMatchObject({ level: 40, sql: "select $1::text as text, pg_sleep($2::float8)" });
  expect(line?.duration_ms).toBeGreaterThanOrEqual(SLOW_MS);
  expect(JSON.stringify(line)).not.toContain("secret");
});

test("logs a slow statement that fails, and one in a transaction", async () => {
  const failing = database`select pg_sleep(0.06), 1 / (random() * 0)::int`;
  expect(failing).rejects.toThrow("division by zero");
  await failing.catch(() => {});
  await database.begin((sql) => sql`select pg_sleep(0.06) as slow`);
  expect(takeSlowQueryLines().map(({ sql }) => sql)).toContain("select pg_sleep(0.06) as slow");
});

test("reports the wait for a connection separately from the duration", async () => {
  waitsMs.length = 0;
  await Promise.all([1, 2, 3, 4].map((n) => database`select pg_sleep(0.03) as wait, ${n}::int`));
  expect(takeSlowQueryLines()).toEqual([]);
  expect(waitsMs.length).toBe(4);
  expect(waitsMs.filter((waitMs) => waitMs >= 20).length).toBeGreaterThanOrEqual(2);
});

test("limits the SQL's length and the lines per interval, and counts the omitted lines", () => {
  const captured = captureLog();
  let nowMs = 0;
  const slowStatements = createSlowStatementLog(captured.log, 100, () => nowMs);
  slowStatements.add("quick", 99);
  for (let n = 0; n < 1_000; n += 1) slowStatements.add(`select ${"x".repeat(100_000)}`, 100);
  expect(captured.lines.length).toBe(10);
  expect(captured.lines.every(({ sql }) => sql.length <= 1_001)).toBe(true);
  nowMs = 10_000;
  slowStatements.add("select 1", 100);
  slowStatements.add("select 2", 100);
  expect(captured.lines.slice(10).map(({ sql, omitted }) => [sql, omitted])).toEqual([
    ["select 1", 990],
    ["select 2", undefined],
  ]);
});

test("logs nothing if the threshold is 0", () => {
  const captured = captureLog();
  createSlowStatementLog(captured.log, 0).add("select 1", 1e9);
  expect(captured.lines).toEqual([]);
});
