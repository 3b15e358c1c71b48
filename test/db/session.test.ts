import { afterAll, beforeAll, expect, test } from "bun:test";
import { join } from "node:path";
import pino from "pino";
import { type Database, getReservedPool, openDatabase } from "../../src/db/client.ts";
import { migrate } from "../../src/db/migrate.ts";
import { prepareSession } from "../../src/db/session-check.ts";
import { startApp } from "../support/app.ts";
import { createConversation } from "../support/conversation.ts";
import { startFakePooler } from "../support/fake-pooler.ts";
import { silentLog } from "../support/log.ts";
import { createTestDatabase } from "../support/postgres.ts";

const unusualSettings = {
  DateStyle: "SQL, DMY",
  IntervalStyle: "sql_standard",
  TimeZone: "Asia/Kolkata",
  bytea_output: "escape",
  standard_conforming_strings: "off",
  extra_float_digits: "-10",
  search_path: "nowhere",
  client_encoding: "LATIN1",
  array_nulls: "off",
  transform_null_equals: "on",
  default_transaction_isolation: "serializable",
  jit: "on",
  max_parallel_workers_per_gather: "2",
};

const openedDatabases: Database[] = [];
afterAll(() => Promise.all(openedDatabases.map((database) => database.end({ timeout: 1 }))));

/** Creates a database with unusual settings. It has no Parley tables if `isEmpty`. */
async function createUnusualDatabase(isEmpty = false) {
  const { database, target, name } = await createTestDatabase();
  if (isEmpty) {
    await database`drop schema public cascade`;
    await database`create schema public`;
  }
  for (const [setting, value] of Object.entries(unusualSettings))
    await database.unsafe(`alter database ${name} set ${setting} = '${value}'`);
  await database.end();
  const unusualDatabase = openDatabase({ target, poolSize: 5 });
  openedDatabases.push(unusualDatabase);
  return { database: unusualDatabase, target, name };
}

let parley: Awaited<ReturnType<typeof startApp>>;
beforeAll(async () => {
  const unusualDatabase = await createUnusualDatabase(true);
  await prepareSession(unusualDatabase.database, silentLog);
  await migrate(unusualDatabase.database, silentLog);
  parley = await startApp({ database: unusualDatabase });
});
afterAll(() => parley.stop());

/** Creates a log and an array of its lines. */
function captureLog() {
  const lines: string[] = [];
  return { lines, log: pino({ level: "trace" }, { write: (line: string) => void lines.push(line) }) };
}

test("with unusual database settings, messages, metadata and times are returned unchanged", async () => {
  const account = await parley.register();
  const text = "Ünïcödé 漢字 🦜 back\\slash 'quote' \\x41";
  const metadata = { ratio: 0.1234567890123, text, list: [1, "NULL"], date: "03/04/2026" };
  const token = account.access_token;
  const conversation = await createConversation(parley, account, [], { metadata });
  expect(conversation.metadata).toEqual(metadata);
  const path = `/api/v1/conversations/${conversation.id}/messages`;
  const sendResponse = await parley.fetch(path, { token, json: { content: text, reply: false } });
  expect(sendResponse.status).toBe(201);
  const { data } = (await (await parley.fetch(path, { token })).json()) as {
    data: { content: string; created_at: string }[];
  };
  const message = data.find(({ content }) => content === text);
  expect(Math.abs(Date.parse(message?.created_at ?? "") - Date.now())).toBeLessThan(60_000);
  const rows = await parley.database`select 0.1::float8 + 0.2::float8 as sum, decode('00ff5c', 'hex') as bytes,
    timestamptz '2026-03-04T05:06:07Z' as time, interval '1 day 02:03' as span, ${"a\\b"}::text as text`;
  expect(rows[0]).toEqual({
    sum: 0.1 + 0.2,
    bytes: Buffer.from([0, 255, 92]),
    time: new Date("2026-03-04T05:06:07Z"),
    span: "1 day 02:03:00",
    text: "a\\b",
  });
});

test("with unusual database settings, a repeated request with an Idempotency-Key receives the stored response", async () => {
  const { access_token: token } = await parley.register();
  const createTitledConversation = () =>
    parley.fetch("/api/v1/conversations", {
      token,
      json: { title: "Größe 漢字" },
      headers: { "idempotency-key": "the-same-key-twice" },
    });
  const firstResponse = await createTitledConversation();
  const secondResponse = await createTitledConversation();
  expect([firstResponse.status, secondResponse.status]).toEqual([201, 201]);
  expect(secondResponse.headers.get("idempotent-replayed")).toBe("true");
  expect(await secondResponse.text()).toBe(await firstResponse.text());
});

test("with unusual database settings, documents can be listed and searched", async () => {
  const { access_token: token } = await parley.register();
  const listBody = (await (await parley.fetch("/api/v1/documents", { token })).json()) as { data: unknown[] };
  expect(listBody.data.length).toBeGreaterThan(3);
  const searchBody = (await (await parley.fetch("/api/v1/documents?q=PgBouncer", { token })).json()) as {
    data: unknown[];
  };
  expect(searchBody.data.length).toBeGreaterThan(0);
});

test("every pool uses Parley's settings, even a pool that is opened later", async () => {
  const { database } = await createUnusualDatabase();
  const { lines, log } = captureLog();
  await prepareSession(database, log);
  expect(lines.map((line) => JSON.parse(line).msg)).toEqual([
    'search_path is "nowhere", which does not contain Parley\'s tables; Parley uses the schema "public" instead.',
  ]);
  for (const pool of [database, getReservedPool(database)]) {
    const rows = await pool<{ name: string; setting: string }[]>`
      select name, setting from pg_settings where name in ${pool(Object.keys(unusualSettings))}`;
    expect(Object.fromEntries(rows.map(({ name, setting }) => [name, setting]))).toEqual({
      DateStyle: "ISO, MDY",
      IntervalStyle: "postgres",
      TimeZone: "UTC",
      bytea_output: "hex",
      standard_conforming_strings: "on",
      extra_float_digits: "1",
      search_path: "public",
      client_encoding: "UTF8",
      array_nulls: "on",
      transform_null_equals: "off",
      default_transaction_isolation: "read committed",
      jit: "off",
      max_parallel_workers_per_gather: "0",
    });
  }
});

test("Parley uses the schema that the database's search_path selects", async () => {
  const { database, target, name } = await createTestDatabase();
  openedDatabases.push(database);
  await database`alter schema public rename to mine`;
  await database`create schema public`;
  await database.unsafe(`alter database ${name} set search_path = mine`);
  const reopenedDatabase = openDatabase({ target, poolSize: 2 });
  openedDatabases.push(reopenedDatabase);
  const { lines, log } = captureLog();
  await prepareSession(reopenedDatabase, log);
  expect(await reopenedDatabase`select current_schema() as schema`).toEqual([{ schema: "mine" }] as never);
  expect(lines).toEqual([]);
});

test("parameters that a pooler rejects aren't sent again, and each setting that remains unsuitable causes a warning", async () => {
  const { target, name } = await createUnusualDatabase();
  const documentedParameters =
    /ignore_startup_parameters = (\S+)/.exec(await Bun.file("docs/operations.md").text())?.[1] ?? "";
  const pooler = startFakePooler(join(target.socketDirectory, ".s.PGSQL.5432"), documentedParameters.split(","));
  const url = `postgres://${target.user}@127.0.0.1:${pooler.port}/${name}`;
  const database = openDatabase({ target: { url }, poolSize: 2 });
  const { lines, log } = captureLog();
  try {
    await prepareSession(database, log);
    const warnings = lines.map((line) => JSON.parse(line)).filter(({ level }) => level === 40);
    const warnedSettings = warnings.map(({ msg }) => String(msg).split(" ")[0]).sort();
    expect(warnedSettings).toEqual([
      "IntervalStyle",
      "array_nulls",
      "bytea_output",
      "default_transaction_isolation",
      "extra_float_digits",
      "search_path",
      "transform_null_equals",
    ]);
    expect(warnings.find(({ msg }) => msg.startsWith("bytea_output"))?.msg).toBe(
      'bytea_output is "escape"; Parley needs "hex" and cannot change it behind a pooler; ' +
        `run \`alter role "${target.user}" set bytea_output = 'hex'\`.`,
    );
    const rejectedCount = pooler.rejectedParameters.length;
    expect(await database`select current_setting('DateStyle') as style`).toEqual([{ style: "ISO, MDY" }] as never);
    await getReservedPool(database)`select 1`;
    expect(pooler.rejectedParameters.length).toBe(rejectedCount);
  } finally {
    await database.end({ timeout: 1 });
    pooler.stop();
  }
});
