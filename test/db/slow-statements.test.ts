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

const removeSlowQueryLines = () => lines.splice(0).filter(({ msg }) => msg === "slow query");

test("a slow statement is logged with its SQL and duration, but without its parameters", async () => {
  await database`select ${"quick"}::text`;
  await database`
    select ${"a user's secret"}::text as text,
      pg_sleep(${SLOW_MS / 1_000}::float8)`;
  const [line, ...otherLines] = removeSlowQueryLines();
  expect(otherLines).toEqual([]);
  expect(line).toMatchObject({ level: 40, sql: "select $1::text as text, pg_sleep($2::float8)" });
  expect(line?.duration_ms).toBeGreaterThanOrEqual(SLOW_MS);
  expect(JSON.stringify(line)).not.toContain("secret");
});

test("a slow statement is logged even if it fails or runs in a transaction", async () => {
  const failingQuery = database`select pg_sleep(0.06), 1 / (random() * 0)::int`;
  expect(failingQuery).rejects.toThrow("division by zero");
  await failingQuery.catch(() => {});
  await database.begin((sql) => sql`select pg_sleep(0.06) as slow`);
  expect(removeSlowQueryLines().map(({ sql }) => sql)).toEqual([
    "select pg_sleep(0.06), 1 / (random() * 0)::int",
    "select pg_sleep(0.06) as slow",
  ]);
});

test("the wait for a connection is reported separately, and doesn't count toward the duration", async () => {
  waitsMs.length = 0;
  await Promise.all([1, 2, 3, 4].map((n) => database`select pg_sleep(0.03) as wait, ${n}::int`));
  expect(removeSlowQueryLines()).toEqual([]);
  expect(waitsMs.length).toBe(4);
  expect(waitsMs.filter((waitMs) => waitMs >= 20).length).toBeGreaterThanOrEqual(2);
});

test("the SQL's length and the lines per interval are limited, and omitted lines are counted", () => {
  const capturedLog = captureLog();
  let nowMs = 0;
  const slowStatements = createSlowStatementLog(capturedLog.log, 100, () => nowMs);
  slowStatements.add("quick", 99);
  for (let n = 0; n < 1_000; n += 1) slowStatements.add(`select ${"x".repeat(100_000)}`, 100);
  expect(capturedLog.lines.length).toBe(10);
  expect(capturedLog.lines.every(({ sql }) => sql.length <= 1_001)).toBe(true);
  nowMs = 10_000;
  slowStatements.add("select 1", 100);
  slowStatements.add("select 2", 100);
  expect(capturedLog.lines.slice(10).map(({ sql, omitted }) => [sql, omitted])).toEqual([
    ["select 1", 990],
    ["select 2", undefined],
  ]);
});

test("nothing is logged if the threshold is 0", () => {
  const capturedLog = captureLog();
  createSlowStatementLog(capturedLog.log, 0).add("select 1", 1e9);
  expect(capturedLog.lines).toEqual([]);
});
