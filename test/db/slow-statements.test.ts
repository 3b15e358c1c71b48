import { afterAll, beforeAll, expect, test } from "bun:test";
import pino from "pino";
import type { Database } from "../../src/db/client.ts";
import { connectDatabase } from "../../src/db/connect.ts";
import { createSlowStatements } from "../../src/db/slow-statements.ts";
import { createTestDatabase } from "../support/postgres.ts";

type Line = { level: number; msg: string; sql: string; duration_ms: number; omitted?: number };

function createKeptLog() {
  const lines: Line[] = [];
  return { lines, log: pino({ level: "info" }, { write: (line: string) => void lines.push(JSON.parse(line)) }) };
}

const SLOW_MS = 50;
const { lines, log } = createKeptLog();
const waitsMs: number[] = [];
let database: Database;
let close: () => Promise<void>;
beforeAll(async () => {
  const { name, target, database: made } = await createTestDatabase();
  await made.end();
  const url = `postgres://${target.user}@/${name}?host=${target.socketDirectory}`;
  const config = { DATABASE_URL: url, DATABASE_POOL_SIZE: 2, DATABASE_SLOW_QUERY_MS: SLOW_MS, DATA_DIR: "" };
  ({ database, close } = await connectDatabase(config, log, { onWait: (waitMs) => void waitsMs.push(waitMs) }));
});
afterAll(() => close());

const takeLines = () => lines.splice(0).filter(({ msg }) => msg === "slow query");

test("a slow statement is logged in one line, with text and duration and without parameters", async () => {
  await database`select ${"quick"}::text`;
  await database`
    select ${"a secret of the user"}::text as text,
      pg_sleep(${SLOW_MS / 1_000}::float8)`;
  const [line, ...others] = takeLines();
  expect(others).toEqual([]);
  expect(line).toMatchObject({ level: 40, sql: "select $1::text as text, pg_sleep($2::float8)" });
  expect(line?.duration_ms).toBeGreaterThanOrEqual(SLOW_MS);
  expect(JSON.stringify(line)).not.toContain("secret");
});

test("also if it fails, or is part of a transaction", async () => {
  const failing = database`select pg_sleep(0.06), 1 / (random() * 0)::int`;
  expect(failing).rejects.toThrow("division by zero");
  await failing.catch(() => {});
  await database.begin((sql) => sql`select pg_sleep(0.06) as slow`);
  const [, ...texts] = ["", ...takeLines().map(({ sql }) => sql)];
  expect(texts).toContain("select pg_sleep(0.06) as slow");
});

test("its duration excludes the wait for a connection, which is reported separately", async () => {
  waitsMs.length = 0;
  await Promise.all([1, 2, 3, 4].map((n) => database`select pg_sleep(0.03) as wait, ${n}::int`));
  expect(takeLines()).toEqual([]);
  expect(waitsMs.length).toBe(4);
  expect(waitsMs.filter((waitMs) => waitMs >= 20).length).toBeGreaterThanOrEqual(2);
});

test("limits text lengths and lines per interval, and counts the omitted ones", () => {
  const kept = createKeptLog();
  let nowMs = 0;
  const slow = createSlowStatements(kept.log, 100, () => nowMs);
  slow.add("quick", 99);
  for (let n = 0; n < 1_000; n += 1) slow.add(`select ${"x".repeat(100_000)}`, 100);
  expect(kept.lines.length).toBe(10);
  expect(kept.lines.every(({ sql }) => sql.length <= 1_001)).toBe(true);
  nowMs = 10_000;
  slow.add("select 1", 100);
  slow.add("select 2", 100);
  expect(kept.lines.slice(10).map(({ sql, omitted }) => [sql, omitted])).toEqual([
    ["select 1", 990],
    ["select 2", undefined],
  ]);
});

test("with 0, nothing is logged", () => {
  const kept = createKeptLog();
  createSlowStatements(kept.log, 0).add("select 1", 1e9);
  expect(kept.lines).toEqual([]);
});
