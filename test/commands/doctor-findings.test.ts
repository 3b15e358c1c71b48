import { expect, test } from "bun:test";
import { checkClock } from "../../src/commands/doctor/clock.ts";
import { compareClocks, compareWithDateHeader } from "../../src/commands/doctor/clock-reading.ts";
import type { DatabaseFacts } from "../../src/commands/doctor/database-facts.ts";
import { checkDatabaseFacts } from "../../src/commands/doctor/database-findings.ts";
import { checkSpace } from "../../src/commands/doctor/disk.ts";
import { checkLimits } from "../../src/commands/doctor/limits.ts";
import { findUnlistedModels, parseModelIds } from "../../src/commands/doctor/provider-findings.ts";
import { checkInfo, explainRedisFailure } from "../../src/commands/doctor/redis.ts";

const formatFindings = (findings: { status: string; message: string }[]) =>
  findings.map(({ status, message }) => `${status}: ${message}`);

test("the clock check takes the response time into account", () => {
  const findClockStatus = (otherClockMs: number, durationMs: number) =>
    checkClock([compareClocks("x", otherClockMs, { sentAtMs: 0, receivedAtMs: durationMs })])[0]?.status;
  expect(findClockStatus(0, 10)).toBe("ok");
  expect(findClockStatus(-8_000, 10)).toBe("warning");
  expect(findClockStatus(8_000, 10)).toBe("warning");
  // The other clock may have been read at any time during these ten seconds.
  expect(findClockStatus(-1_000, 10_000)).toBe("ok");
  expect(findClockStatus(-31_000, 10)).toBe("problem");
  const createReading = (source: string, aheadMs: number, errorMs: number) => ({ source, aheadMs, errorMs });
  expect(
    formatFindings(
      checkClock([createReading("x", 9_000, 2_000), createReading("y", 0, 1), createReading("x", 8_000, 10)]),
    ),
  ).toEqual([expect.stringMatching(/^warning: This machine's clock is 8 s ahead of the clock of x;/)]);
  expect(checkClock([])[0]?.status).toBe("skipped");
  expect(compareWithDateHeader("x", new Headers(), 0)).toBeNull();
});

test("the disk check reports too little free space and too few free inodes", () => {
  const findStatuses = (freeBytes: number, freeInodes: number | null) =>
    checkSpace("DATA_DIR /data", { freeBytes, freeInodes }).map(({ status }) => status);
  expect(findStatuses(5e9, null)).toEqual([]);
  expect(findStatuses(5e8, 1e6)).toEqual(["warning"]);
  expect(findStatuses(5e7, 500)).toEqual(["problem", "problem"]);
  expect(findStatuses(5e9, 5_000)).toEqual(["warning"]);
});

test("model names match with or without a tag, date or prefix, but partial names don't match", () => {
  const ids = ["llama3.2:latest", "claude-sonnet-4-6-20260101", "models/gemini-3", "gpt-5.2"];
  expect(findUnlistedModels(["llama3.2", "claude-sonnet-4-6", "gemini-3", "gpt-5.2"], ids)).toEqual([]);
  expect(findUnlistedModels(["llama3", "claude-sonnet-4", "gpt-5"], ids)).toEqual([
    "llama3",
    "claude-sonnet-4",
    "gpt-5",
  ]);
  expect(parseModelIds({ data: [{ id: "a" }, { name: "b" }, null] })).toEqual(["a"]);
  expect(parseModelIds([{ id: "a" }])).toEqual(["a"]);
  for (const json of [undefined, null, "models", { models: [] }]) expect(parseModelIds(json)).toBeNull();
});

test("the limits check reports low limits and low memory", () => {
  const facts = {
    openFilesMax: 65_536,
    memoryMaxBytes: null,
    memoryFreeBytes: 4e9,
    somaxconn: 4_096,
    overcommitMode: 0,
  };
  const config = { DATABASE_POOL_SIZE: 10 };
  const findLimitFindings = (change: Partial<typeof facts> | { memoryMaxBytes: number }, isRunning = false) =>
    formatFindings(checkLimits({ ...facts, ...change }, config, isRunning));
  expect(findLimitFindings({})).toEqual([]);
  expect(findLimitFindings({ openFilesMax: 64 })).toEqual([
    expect.stringMatching(/^problem: The limit on open files is 64,/),
  ]);
  expect(findLimitFindings({ openFilesMax: 1_024 })).toEqual([
    expect.stringMatching(/^warning: The limit on open files is 1024, .* about 7\d\d clients/),
  ]);
  expect(findLimitFindings({ memoryMaxBytes: 400e6 })).toEqual([
    expect.stringMatching(/^warning: The memory is limited to 400\.0 MB/),
  ]);
  expect(findLimitFindings({ memoryMaxBytes: 100e6 })).toEqual([expect.stringMatching(/^problem: The memory/)]);
  expect(findLimitFindings({ memoryFreeBytes: 1e8 })).toEqual([expect.stringMatching(/^warning: Only 100\.0 MB/)]);
  // A running server has already allocated its memory.
  expect(findLimitFindings({ memoryFreeBytes: 1e8 }, true)).toEqual([]);
  expect(findLimitFindings({ somaxconn: 128, overcommitMode: 2 })).toHaveLength(2);
});

const database: DatabaseFacts = {
  version: "17.2",
  major: 17,
  is_superuser: false,
  max_connections: 100,
  reserved_connections: 3,
  used_connections: 5,
  role_limit: null,
  database_limit: null,
  autovacuum: "on",
  fsync: "on",
  is_tls: false,
  oldest_transaction_s: null,
  oldest_client: null,
  blocked_statements: 0,
  prepared_transactions: 0,
  inaccessible_tables: [],
  latencyMs: 1,
  clock: { source: "the database", aheadMs: 0, errorMs: 1 },
};
const usage = { connectionsMax: 34, isRunning: false, host: "127.0.0.1" as string | undefined, isPooled: false };

test.each<[Partial<DatabaseFacts>, Partial<typeof usage>, RegExp | null]>([
  [{}, {}, null],
  [{}, { host: "db.example.com" }, /not encrypted/],
  [{ is_tls: true }, { host: "db.example.com" }, null],
  [{}, { host: "8.8.8.8" }, /not encrypted/],
  [{}, { host: "postgres" }, null],
  [{}, { host: "10.1.2.3" }, null],
  [{}, { host: "db.example.com", isPooled: true }, null],
  [{ major: 19, version: "19.0" }, {}, /tested with 15 to 18/],
  [{ max_connections: 30 }, {}, /max_connections of the server allows 27/],
  [{ role_limit: 20 }, {}, /connection limit of the role allows 20/],
  [{ database_limit: 20 }, {}, /connection limit of the database allows 20/],
  [{ max_connections: 30 }, { isPooled: true }, null],
  [{ used_connections: 80 }, {}, /Only 17 connections of the server are free/],
  [{ used_connections: 80 }, { isRunning: true }, null],
  [{ autovacuum: "off" }, {}, /autovacuum is off/],
  [{ latencyMs: 45 }, {}, /takes 45 ms/],
  [
    { oldest_transaction_s: 900, oldest_client: "process 12 psql" },
    {},
    /\(process 12 psql\) has been open for 15 minutes/,
  ],
  [{ oldest_transaction_s: 30 }, {}, null],
  [{ prepared_transactions: 2 }, {}, /^2 prepared transactions/],
  [{ inaccessible_tables: ["a", "b", "c", "d", "e", "f"] }, {}, /a, b, c, d, e and 1 more/],
])("the database check reports only the expected finding for %j and %j", (facts, change, expected) => {
  const messages = checkDatabaseFacts({ ...database, ...facts }, { ...usage, ...change }).map(({ message }) => message);
  expect(messages).toEqual(expected === null ? [] : [expect.stringMatching(expected)]);
});

test("the Redis check explains errors, and reports replicas, full memory and slow responses", () => {
  const explainFailure = (reason: string, url = "redis://h:1") => explainRedisFailure("h:1", reason, url);
  expect(explainFailure("NOPERM no permission")).toContain("parley:*");
  expect(explainFailure("self-signed certificate", "rediss://h:1")).toContain("NODE_EXTRA_CA_CERTS");
  expect(explainFailure("ECONNRESET", "rediss://h:1")).toContain("no TLS, write redis://");
  expect(explainFailure("ECONNRESET")).toContain("requires TLS, write rediss://");
  expect(explainFailure("Unknown RESP type 72")).toStartWith("The server at h:1 is not a Redis server;");
  expect(formatFindings(checkInfo("", 1))).toEqual([]);
  expect(formatFindings(checkInfo("role:slave\r\n", 1))).toEqual([expect.stringMatching(/^problem: .*replica/)]);
  expect(formatFindings(checkInfo("maxmemory:100\r\nused_memory:99\r\nmaxmemory_policy:noeviction\r\n", 50))).toEqual([
    expect.stringMatching(/^warning: .*95 %/),
    expect.stringMatching(/^warning: Redis takes 50 ms/),
  ]);
});
