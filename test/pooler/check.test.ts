import { afterEach, beforeAll, expect, test } from "bun:test";
import pino from "pino";
import { type Database, getPooling, getReservedPool, openDatabase } from "../../src/db/client.ts";
import { prepareSession } from "../../src/db/session-check.ts";
import { UnsuitableDatabaseError } from "../../src/db/suitability.ts";
import { silentLog } from "../support/log.ts";
import { startPgBouncer } from "../support/pgbouncer.ts";
import { createTestDatabase } from "../support/postgres.ts";

let testDatabase: Awaited<ReturnType<typeof createTestDatabase>>;
beforeAll(async () => {
  testDatabase = await createTestDatabase();
});

const cleanups: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

type PoolerOptions = Omit<Parameters<typeof startPgBouncer>[0], "socketDirectory">;

async function openThroughPooler(options: PoolerOptions, query = ""): Promise<Database> {
  const pooler = await startPgBouncer({ ...options, socketDirectory: testDatabase.target.socketDirectory });
  cleanups.push(pooler.stop);
  return openTestDatabase({ url: pooler.url(testDatabase.name) + query });
}

function openTestDatabase(target: Parameters<typeof openDatabase>[0]["target"]): Database {
  const database = openDatabase({ target, poolSize: 4 });
  cleanups.push(() => database.end({ timeout: 1 }));
  return database;
}

/** Counts the prepared statements on the connections to Postgres. */
async function countPreparedStatements(database: Database): Promise<number> {
  for (let n = 0; n < 3; n += 1) await database`select ${n}::int + 1`;
  const [row] = await database<{ count: number }[]>`
    select count(*)::int as count from pg_prepared_statements where statement like '%::int + 1'`;
  return row?.count ?? 0;
}

test("statements are prepared without a pooler", async () => {
  const database = openTestDatabase(testDatabase.target);
  await prepareSession(database, silentLog);
  expect(getPooling(database)).toBe("none");
  expect(await countPreparedStatements(database)).toBe(1);
  expect(getReservedPool(database).options.prepare).toBe(true);
});

test.each([
  ["many connections", 20, {}],
  ["a single connection, which looks like a session", 1, {}],
  ["round-robin connections", 5, { server_round_robin: "1", min_pool_size: "5" }],
])("a transaction pooler with %s is detected, and no statements are prepared", async (_, poolSize, settings) => {
  const database = await openThroughPooler({ mode: "transaction", poolSize, settings });
  await prepareSession(database, silentLog);
  expect(getPooling(database)).toBe("transaction");
  expect(await countPreparedStatements(database)).toBe(0);
  expect(getReservedPool(database).options.prepare).toBe(false);
  await Promise.all(Array.from({ length: 50 }, (_, n) => database`select ${n}::int + 2`));
});

test("a transaction pooler is detected even while it is busy with other clients", async () => {
  const database = await openThroughPooler({ mode: "transaction", poolSize: 3 });
  const otherDatabase = openTestDatabase(
    database.options.connection && {
      url: `postgres://postgres@127.0.0.1:${database.options.port[0]}/${testDatabase.name}`,
    },
  );
  await prepareSession(otherDatabase, silentLog);
  let isFinished = false;
  const busyQueries = Promise.all(
    Array.from({ length: 4 }, async () => {
      while (!isFinished) await otherDatabase`select pg_sleep(0.002)`;
    }),
  );
  await prepareSession(database, silentLog);
  isFinished = true;
  await busyQueries;
  expect(getPooling(database)).toBe("transaction");
});

test("statements are prepared behind a session pooler", async () => {
  const database = await openThroughPooler({ mode: "session", poolSize: 20 });
  await prepareSession(database, silentLog);
  expect(getPooling(database)).toBe("session");
  expect(await countPreparedStatements(database)).toBe(1);
});

test("no statements are prepared behind a session pooler without a spare connection", async () => {
  const database = await openThroughPooler({ mode: "session", poolSize: 1 });
  await prepareSession(database, silentLog);
  expect(await countPreparedStatements(database)).toBe(0);
});

test("a statement pooler is rejected with an explanation", async () => {
  const database = await openThroughPooler({ mode: "statement" });
  const error = await prepareSession(database, silentLog).catch((error) => error);
  expect(error).toBeInstanceOf(UnsuitableDatabaseError);
  expect(error.message).toBe(
    "The pooler in DATABASE_URL doesn't allow transactions (transaction blocks not allowed in statement pooling mode); " +
      "set `pool_mode = transaction` there.",
  );
});

test("with prepare=true in DATABASE_URL, statements are prepared even behind a transaction pooler", async () => {
  const database = await openThroughPooler({ mode: "transaction", poolSize: 1 }, "?prepare=true");
  await prepareSession(database, silentLog);
  expect(await countPreparedStatements(database)).toBe(1);
});

test("the check leaves no settings, statements or listeners on the connections to Postgres", async () => {
  const database = await openThroughPooler({ mode: "transaction", poolSize: 1 });
  await prepareSession(database, silentLog);
  const [leftovers] = await database`
    select (select count(*)::int from pg_prepared_statements) as statements,
      (select count(*)::int from pg_listening_channels()) as channels,
      (select count(*)::int from pg_settings where source = 'session' and name !~* '^(application_name|client_encoding|datestyle|timezone|standard_conforming_strings)$') as settings`;
  expect(leftovers).toEqual({ statements: 0, channels: 0, settings: 0 });
});

test("the pooler's mode, and a command that sets the role's timeouts, are logged once", async () => {
  const lines: { level: number; msg: string; pool_mode?: string }[] = [];
  const log = pino({ level: "info" }, { write: (line: string) => void lines.push(JSON.parse(line)) });
  const database = await openThroughPooler({ mode: "transaction" });
  await prepareSession(database, log);
  expect(lines.map(({ msg, pool_mode }) => (pool_mode ? `${msg}: ${pool_mode}` : msg))).toEqual([
    "the pooler rejects some startup parameters; continuing without them",
    "connected through a pooler: transaction",
    "The pooler does not pass on Parley's timeouts, so statements outside transactions have none; run " +
      "`alter role \"postgres\" set idle_in_transaction_session_timeout = '8000ms'; " +
      "alter role \"postgres\" set lock_timeout = '2000ms'; alter role \"postgres\" set statement_timeout = '30000ms'`.",
  ]);
});
