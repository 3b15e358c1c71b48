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
/** The number of concurrent requests. It is lower for registrations, because they hash passwords. */
const WORKERS = 200;
const REGISTRATION_WORKERS = 20;

/** The size of each table in bytes. */
type Sizes = Map<string, { heap: number; indexes: number; toast: number }>;

const postgresServer = await startInstalledPostgres({ settings: { fsync: "off" }, isProcessWide: true });
const admin = openDatabase({ target: { ...postgresServer, database: "postgres" }, poolSize: 1 });
await admin`create database storage`;
await admin.end();
const target = { socketDirectory: postgresServer.socketDirectory, user: postgresServer.user, database: "storage" };
const database = openDatabase({ target, poolSize: 10 });
await migrate(database, silentLog);
const provider = startMockProvider();
provider.script("storage", {
  pieces: Array.from({ length: PIECES }, () => "lorem ipsum ".repeat(9).slice(0, PIECE_CHARS)),
  pieceDelayMs: PIECE_DELAY_MS,
});
const parley = await startApp({
  database: { database, name: "storage", target },
  config: { COMPATIBLE_BASE_URL: provider.openaiUrl, AI_MODELS: "compatible/storage", RATE_LIMIT_ENABLED: "false" },
});

const accounts: Account[] = [];
const conversations: { id: string; owner: Account }[] = [];
const pickInRotation = <T>(list: readonly T[], index: number): T => list[index % list.length] as T;

const registerUser = async () => {
  accounts.push(await parley.register(`${createId()}@example.com`, "Somebody Somewhere"));
};
await measureGrowth("a user with a session", USERS, registerUser, { workers: REGISTRATION_WORKERS });
await measureGrowth("a conversation of two", CONVERSATIONS, async (index) => {
  const owner = pickInRotation(accounts, index);
  const { id } = await createConversation(parley, owner, [pickInRotation(accounts, index + 1)]);
  conversations.push({ id, owner });
});
const content = "lorem ipsum ".repeat(MESSAGE_CHARS).slice(0, MESSAGE_CHARS);
await measureGrowth(`a message of ${MESSAGE_CHARS} characters`, MESSAGES, (index) => sendMessage(index, { content }));
await measureGrowth(
  `an answer of ${PIECES * PIECE_CHARS} characters, with its question of ${MESSAGE_CHARS}`,
  ANSWERS,
  (index) => sendMessage(index, { content, reply: true }),
  { finish: waitForAnswers },
);
await parley.stop();
await provider.stop();
await database.end();
process.exit(0);

async function sendMessage(index: number, json: Record<string, unknown>): Promise<void> {
  const { id, owner } = pickInRotation(conversations, index);
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
async function measureGrowth(
  label: string,
  count: number,
  work: (index: number) => Promise<void>,
  { workers = WORKERS, finish = async () => {} } = {},
): Promise<void> {
  await database`vacuum`;
  await database`checkpoint`;
  const [sizesBefore, walPositionBefore] = [await readSizes(database), await readWalPosition(database)];
  let nextIndex = 0;
  const runWorker = async () => {
    while (nextIndex < count) await work(nextIndex++);
  };
  await Promise.all(Array.from({ length: workers }, runWorker));
  await finish();
  const walBytes = Number((await readWalPosition(database)) - walPositionBefore);
  await database`vacuum`;
  const sizes = await readSizes(database);
  const growth = [...sizes]
    .map(([table, size]) => {
      const sizeBefore = sizesBefore.get(table) ?? { heap: 0, indexes: 0, toast: 0 };
      const heap = (size.heap - sizeBefore.heap) / count;
      const indexes = (size.indexes - sizeBefore.indexes) / count;
      const toast = (size.toast - sizeBefore.toast) / count;
      return { table, heap, indexes, toast, total: heap + indexes + toast };
    })
    .filter(({ total }) => Math.abs(total) >= 1)
    .toSorted((a, b) => b.total - a.total);
  const totalBytes = growth.reduce((sum, { total }) => sum + total, 0);
  console.log(
    `\n${label}: ${totalBytes.toFixed(0)} bytes, WAL ${(walBytes / count).toFixed(0)} bytes (average of ${count})`,
  );
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
