import { afterAll, beforeAll, expect, test } from "bun:test";
import { join } from "node:path";
import pino from "pino";
import { type Database, getReservedPool, openDatabase } from "../../src/db/client.ts";
import { migrate } from "../../src/db/migrate.ts";
import { prepareSession } from "../../src/db/session-check.ts";
import { startApp } from "../support/app.ts";
import { createConversation } from "../support/conversation.ts";
import { silentLog } from "../support/log.ts";
import { startPooler } from "../support/pooler.ts";
import { createTestDatabase } from "../support/postgres.ts";

const odd = {
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

const made: Database[] = [];
afterAll(() => Promise.all(made.map((one) => one.end({ timeout: 1 }))));

/** A database with unusual settings; with `isEmpty`, also without Parley's tables. */
async function createOdd(isEmpty = false) {
  const { database, target, name } = await createTestDatabase();
  if (isEmpty) {
    await database`drop schema public cascade`;
    await database`create schema public`;
  }
  for (const [setting, value] of Object.entries(odd))
    await database.unsafe(`alter database ${name} set ${setting} = '${value}'`);
  await database.end();
  const other = openDatabase({ target, poolSize: 5 });
  made.push(other);
  return { database: other, target, name };
}

let site: Awaited<ReturnType<typeof startApp>>;
beforeAll(async () => {
  const given = await createOdd(true);
  await prepareSession(given.database, silentLog);
  await migrate(given.database, silentLog);
  site = await startApp({ database: given });
});
afterAll(() => site.stop());

/** A log that keeps its lines. */
function createKeptLog() {
  const lines: string[] = [];
  return { lines, log: pino({ level: "trace" }, { write: (line: string) => void lines.push(line) }) };
}

test("messages, metadata and times are returned unchanged", async () => {
  const account = await site.register();
  const text = "Ünïcödé 漢字 🦜 back\\slash 'quote' \\x41";
  const metadata = { ratio: 0.1234567890123, text, list: [1, "NULL"], date: "03/04/2026" };
  const token = account.access_token;
  const conversation = await createConversation(site, account, [], { metadata });
  expect(conversation.metadata).toEqual(metadata);
  const path = `/api/v1/conversations/${conversation.id}/messages`;
  const sent = await site.fetch(path, { token, json: { content: text, reply: false } });
  expect(sent.status).toBe(201);
  const { data } = (await (await site.fetch(path, { token })).json()) as {
    data: { content: string; created_at: string }[];
  };
  const message = data.find(({ content }) => content === text);
  expect(Math.abs(Date.parse(message?.created_at ?? "") - Date.now())).toBeLessThan(60_000);
  const rows = await site.database`select 0.1::float8 + 0.2::float8 as sum, decode('00ff5c', 'hex') as bytes,
    timestamptz '2026-03-04T05:06:07Z' as time, interval '1 day 02:03' as span, ${"a\\b"}::text as text`;
  expect(rows[0]).toEqual({
    sum: 0.1 + 0.2,
    bytes: Buffer.from([0, 255, 92]),
    time: new Date("2026-03-04T05:06:07Z"),
    span: "1 day 02:03:00",
    text: "a\\b",
  });
});

test("a repeated request with its Idempotency-Key gets the stored response", async () => {
  const { access_token: token } = await site.register();
  const send = () =>
    site.fetch("/api/v1/conversations", {
      token,
      json: { title: "Größe 漢字" },
      headers: { "idempotency-key": "the-same-key-twice" },
    });
  const first = await send();
  const second = await send();
  expect([first.status, second.status]).toEqual([201, 201]);
  expect(second.headers.get("idempotent-replayed")).toBe("true");
  expect(await second.text()).toBe(await first.text());
});

test("documents can be searched and read", async () => {
  const { access_token: token } = await site.register();
  const list = (await (await site.fetch("/api/v1/documents", { token })).json()) as { data: unknown[] };
  expect(list.data.length).toBeGreaterThan(3);
  const found = (await (await site.fetch("/api/v1/documents?q=PgBouncer", { token })).json()) as { data: unknown[] };
  expect(found.data.length).toBeGreaterThan(0);
});

test("all pools have the settings, also those opened later", async () => {
  const { database } = await createOdd();
  const { lines, log } = createKeptLog();
  await prepareSession(database, log);
  expect(lines.map((line) => JSON.parse(line).msg)).toEqual([
    'search_path is "nowhere", which does not contain Parley\'s tables; Parley uses the schema "public" instead.',
  ]);
  for (const pool of [database, getReservedPool(database)]) {
    const rows = await pool<{ name: string; setting: string }[]>`
      select name, setting from pg_settings where name in ${pool(Object.keys(odd))}`;
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

test("a separate schema is kept", async () => {
  const { database, target, name } = await createTestDatabase();
  made.push(database);
  await database`alter schema public rename to mine`;
  await database`create schema public`;
  await database.unsafe(`alter database ${name} set search_path = mine`);
  const other = openDatabase({ target, poolSize: 2 });
  made.push(other);
  const { lines, log } = createKeptLog();
  await prepareSession(other, log);
  expect(await other`select current_schema() as schema`).toEqual([{ schema: "mine" }] as never);
  expect(lines).toEqual([]);
});

test("a pooler that accepts fewer parameters gets fewer, and each remaining unusual setting causes a warning", async () => {
  const { target, name } = await createOdd();
  const documented = /ignore_startup_parameters = (\S+)/.exec(await Bun.file("docs/operations.md").text())?.[1] ?? "";
  const pooler = startPooler(join(target.socketDirectory, ".s.PGSQL.5432"), documented.split(","));
  const url = `postgres://${target.user}@127.0.0.1:${pooler.port}/${name}`;
  const database = openDatabase({ target: { url }, poolSize: 2 });
  const { lines, log } = createKeptLog();
  try {
    await prepareSession(database, log);
    const warnings = lines.map((line) => JSON.parse(line)).filter(({ level }) => level === 40);
    const named = warnings.map(({ msg }) => String(msg).split(" ")[0]).sort();
    expect(named).toEqual([
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
    const refusals = pooler.refused.length;
    expect(await database`select current_setting('DateStyle') as style`).toEqual([{ style: "ISO, MDY" }] as never);
    await getReservedPool(database)`select 1`;
    expect(pooler.refused.length).toBe(refusals);
  } finally {
    await database.end({ timeout: 1 });
    pooler.stop();
  }
});
