// Measures how many bytes users, conversations, messages and answers add to the database's tables and WAL. It uses the
// API of a complete Parley server and a new Postgres with default settings, except that fsync is off.
//
//   .tools/node_modules/.bin/bun test/bench/storage.ts
//
// The results are in docs/scaling.md.
import "../../src/commands/production-mode.ts";
import { type Database, openDatabase } from "../../src/db/client.ts";
import { migrate } from "../../src/db/migrate.ts";
import { createId } from "../../src/lib/id.ts";
import { type Account, startApp } from "../support/app.ts";
import { createConversation } from "../support/conversation.ts";
import { startInstalledPostgres } from "../support/installed-postgres.ts";
import { silentLog } from "../support/log.ts";
import { startMockProvider } from "../support/mock-provider/server.ts";

const USERS = 2_000;
const CONVERSATIONS = 5_000;
const MESSAGES = 100_000;
const MESSAGE_CHARS = 100;
const ANSWERS = 3_000;
/** Each answer has 1,000 characters and takes 2 s. */
const PIECES = 20;
const PIECE_CHARS = 50;
const PIECE_DELAY_MS = 100;
/** Concurrent requests. Registrations have fewer, because they hash passwords. */
const WORKERS = 200;
const REGISTRATION_WORKERS = 20;

type Sizes = Map<string, { heap: number; indexes: number; toast: number }>;

const server = await startInstalledPostgres({ settings: { fsync: "off" }, isProcessWide: true });
const admin = openDatabase({ target: { ...server, database: "postgres" }, poolSize: 1 });
await admin`create database storage`;
await admin.end();
const target = { socketDirectory: server.socketDirectory, user: server.user, database: "storage" };
const database = openDatabase({ target, poolSize: 10 });
await migrate(database, silentLog);
const provider = startMockProvider();
provider.script("one", {
  pieces: Array.from({ length: PIECES }, () => "lorem ipsum ".repeat(9).slice(0, PIECE_CHARS)),
  pieceDelayMs: PIECE_DELAY_MS,
});
const parley = await startApp({
  database: { database, name: "storage", target },
  config: { COMPATIBLE_BASE_URL: provider.openaiUrl, AI_MODELS: "compatible/one", RATE_LIMIT_ENABLED: "false" },
});

const accounts: Account[] = [];
const conversations: { id: string; owner: Account }[] = [];
const pick = <T>(list: readonly T[], index: number): T => list[index % list.length] as T;

const registerOne = async () => {
  accounts.push(await parley.register(`${createId()}@example.com`, "Somebody Somewhere"));
};
await measure("a user with a session", USERS, registerOne, { workers: REGISTRATION_WORKERS });
await measure("a conversation of two", CONVERSATIONS, async (index) => {
  const owner = pick(accounts, index);
  const { id } = await createConversation(parley, owner, [pick(accounts, index + 1)]);
  conversations.push({ id, owner });
});
const content = "lorem ipsum ".repeat(MESSAGE_CHARS).slice(0, MESSAGE_CHARS);
await measure(`a message of ${MESSAGE_CHARS} characters`, MESSAGES, (index) => send(index, { content }));
await measure(
  `an answer of ${PIECES * PIECE_CHARS} characters, with its question of ${MESSAGE_CHARS}`,
  ANSWERS,
  (index) => send(index, { content, reply: true }),
  { finish: waitForAnswers },
);
await parley.stop();
await provider.stop();
await database.end();
process.exit(0);

async function send(index: number, json: Record<string, unknown>): Promise<void> {
  const { id, owner } = pick(conversations, index);
  const response = await parley.fetch(`/api/v1/conversations/${id}/messages`, {
    token: owner.access_token,
    json: { ...json, client_message_id: createId() },
  });
  if (response.status !== 201) throw new Error(`send: ${response.status} ${await response.text()}`);
  await response.arrayBuffer();
}

async function waitForAnswers(): Promise<void> {
  while ((await database`select 1 from generations where status <> 'finished' limit 1`).length > 0)
    await Bun.sleep(100);
}

/** Runs `work` `count` times, and prints the growth of each table per item. */
async function measure(
  what: string,
  count: number,
  work: (index: number) => Promise<void>,
  { workers = WORKERS, finish = async () => {} } = {},
): Promise<void> {
  await database`vacuum`;
  await database`checkpoint`;
  const [sizesBefore, walBefore] = [await readSizes(database), await readWalPosition(database)];
  let next = 0;
  const runWorker = async () => {
    while (next < count) await work(next++);
  };
  await Promise.all(Array.from({ length: workers }, runWorker));
  await finish();
  const walBytes = Number((await readWalPosition(database)) - walBefore);
  await database`vacuum`;
  const sizes = await readSizes(database);
  const growth = [...sizes]
    .map(([table, now]) => {
      const before = sizesBefore.get(table) ?? { heap: 0, indexes: 0, toast: 0 };
      const heap = (now.heap - before.heap) / count;
      const indexes = (now.indexes - before.indexes) / count;
      const toast = (now.toast - before.toast) / count;
      return { table, heap, indexes, toast, all: heap + indexes + toast };
    })
    .filter(({ all }) => Math.abs(all) >= 1)
    .toSorted((one, other) => other.all - one.all);
  const total = growth.reduce((sum, { all }) => sum + all, 0);
  console.log(`\n${what}: ${total.toFixed(0)} bytes, WAL ${(walBytes / count).toFixed(0)} bytes (${count} of them)`);
  for (const { table, heap, indexes, toast } of growth)
    console.log(`  ${table}: rows ${heap.toFixed(0)}, indexes ${indexes.toFixed(0)}, out of line ${toast.toFixed(0)}`);
}

async function readSizes(sql: Database): Promise<Sizes> {
  const rows = await sql<{ table: string; heap: number; indexes: number; total: number }[]>`
    select relname as table, pg_relation_size(oid)::int8 as heap, pg_indexes_size(oid)::int8 as indexes,
      pg_total_relation_size(oid)::int8 as total
    from pg_class where relkind = 'r' and relnamespace = 'public'::regnamespace`;
  return new Map(
    rows.map(({ table, heap, indexes, total }) => [table, { heap, indexes, toast: total - heap - indexes }]),
  );
}

async function readWalPosition(sql: Database): Promise<bigint> {
  const [row] = await sql<{ bytes: string }[]>`
    select (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::text as bytes`;
  return BigInt(row?.bytes ?? 0);
}
