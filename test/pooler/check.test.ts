import { afterEach, beforeAll, expect, test } from "bun:test";
import pino from "pino";
import { type Database, getPooling, getReservedPool, openDatabase } from "../../src/db/client.ts";
import { prepareSession } from "../../src/db/session-check.ts";
import { UnsuitableDatabaseError } from "../../src/db/suitability.ts";
import { silentLog } from "../support/log.ts";
import { startPgBouncer } from "../support/pgbouncer.ts";
import { createTestDatabase } from "../support/postgres.ts";

let made: Awaited<ReturnType<typeof createTestDatabase>>;
beforeAll(async () => {
  made = await createTestDatabase();
});

const undo: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const step of undo.splice(0).reverse()) await step();
});

type Options = Omit<Parameters<typeof startPgBouncer>[0], "socketDirectory">;

async function openPooled(options: Options, query = ""): Promise<Database> {
  const pooler = await startPgBouncer({ ...options, socketDirectory: made.target.socketDirectory });
  undo.push(pooler.stop);
  return open({ url: pooler.url(made.name) + query });
}

function open(target: Parameters<typeof openDatabase>[0]["target"]): Database {
  const database = openDatabase({ target, poolSize: 4 });
  undo.push(() => database.end({ timeout: 1 }));
  return database;
}

/** The number of prepared statements that the connections to Postgres keep. */
async function countPrepared(database: Database): Promise<number> {
  for (let n = 0; n < 3; n += 1) await database`select ${n}::int + 1`;
  const [row] = await database<{ count: number }[]>`
    select count(*)::int as count from pg_prepared_statements where statement like '%::int + 1'`;
  return row?.count ?? 0;
}

test("Postgres without a pooler: statements are prepared", async () => {
  const database = open(made.target);
  await prepareSession(database, silentLog);
  expect(getPooling(database)).toBe("none");
  expect(await countPrepared(database)).toBe(1);
  expect(getReservedPool(database).options.prepare).toBe(true);
});

test.each([
  ["many connections", 20, {}],
  ["a single connection, which looks like a session", 1, {}],
  ["round-robin connections", 5, { server_round_robin: "1", min_pool_size: "5" }],
])("detects a transaction pooler with %s, and prepares nothing", async (_, poolSize, settings) => {
  const database = await openPooled({ mode: "transaction", poolSize, settings });
  await prepareSession(database, silentLog);
  expect(getPooling(database)).toBe("transaction");
  expect(await countPrepared(database)).toBe(0);
  expect(getReservedPool(database).options.prepare).toBe(false);
  await Promise.all(Array.from({ length: 50 }, (_, n) => database`select ${n}::int + 2`));
});

test("detects a transaction pooler that is busy with other clients", async () => {
  const database = await openPooled({ mode: "transaction", poolSize: 3 });
  const other = open(
    database.options.connection && { url: `postgres://postgres@127.0.0.1:${database.options.port[0]}/${made.name}` },
  );
  await prepareSession(other, silentLog);
  let isOver = false;
  const busy = Promise.all(
    Array.from({ length: 4 }, async () => {
      while (!isOver) await other`select pg_sleep(0.002)`;
    }),
  );
  await prepareSession(database, silentLog);
  isOver = true;
  await busy;
  expect(getPooling(database)).toBe("transaction");
});

test("a session pooler works like none", async () => {
  const database = await openPooled({ mode: "session", poolSize: 20 });
  await prepareSession(database, silentLog);
  expect(getPooling(database)).toBe("session");
  expect(await countPrepared(database)).toBe(1);
});

test("a session pooler without a spare connection works too", async () => {
  const database = await openPooled({ mode: "session", poolSize: 1 });
  await prepareSession(database, silentLog);
  expect(await countPrepared(database)).toBe(0);
});

test("a statement pooler is refused with an explanation", async () => {
  const database = await openPooled({ mode: "statement" });
  const error = await prepareSession(database, silentLog).catch((error) => error);
  expect(error).toBeInstanceOf(UnsuitableDatabaseError);
  expect(error.message).toBe(
    "The pooler of DATABASE_URL doesn't allow transactions (transaction blocks not allowed in statement pooling mode); " +
      "set `pool_mode = transaction` there.",
  );
});

test("prepare=true in DATABASE_URL prepares statements behind a pooler as well", async () => {
  const database = await openPooled({ mode: "transaction", poolSize: 1 }, "?prepare=true");
  await prepareSession(database, silentLog);
  expect(await countPrepared(database)).toBe(1);
});

test("the check leaves nothing on the connections to Postgres: no setting, statement or listener", async () => {
  const database = await openPooled({ mode: "transaction", poolSize: 1 });
  await prepareSession(database, silentLog);
  const [left] = await database`
    select (select count(*)::int from pg_prepared_statements) as statements,
      (select count(*)::int from pg_listening_channels()) as channels,
      (select count(*)::int from pg_settings where source = 'session' and name !~* '^(application_name|client_encoding|datestyle|timezone|standard_conforming_strings)$') as settings`;
  expect(left).toEqual({ statements: 0, channels: 0, settings: 0 });
});

test("logs once the kind of the pooler, and the timeouts that the role needs", async () => {
  const lines: { level: number; msg: string; pool_mode?: string }[] = [];
  const log = pino({ level: "info" }, { write: (line: string) => void lines.push(JSON.parse(line)) });
  const database = await openPooled({ mode: "transaction" });
  await prepareSession(database, log);
  expect(lines.map(({ msg, pool_mode }) => (pool_mode ? `${msg}: ${pool_mode}` : msg))).toEqual([
    "the pooler refuses some startup parameters; continuing without them",
    "connected through a pooler: transaction",
    "The pooler does not pass on Parley's timeouts, so single statements have none; run " +
      "`alter role \"postgres\" set idle_in_transaction_session_timeout = '8000ms'; " +
      "alter role \"postgres\" set lock_timeout = '2000ms'; alter role \"postgres\" set statement_timeout = '30000ms'`.",
  ]);
});
