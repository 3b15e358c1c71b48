import { afterAll, beforeAll, expect, test } from "bun:test";
import { createConversation } from "../support/conversation.ts";
import { useFreshServer } from "../support/postgres.ts";
import { type ModelApp, startModelApp } from "./start-model-app.ts";

const ANSWER_COUNT = 100;
/** Each answer takes 10 seconds and contains 3 kB of text. */
const PIECE_COUNT = 200;
const PIECE = "thirteen and½ ";
const PIECE_DELAY_MS = 50;
/** Maximum bytes of write-ahead log per answer, including its question, leases, final state and search index entries. */
const WAL_BYTES_MAX = 20_000;
/** Minimum share of updates that are heap-only (HOT). */
const HOT_SHARE_MIN = 0.95;

let app: ModelApp;
beforeAll(async () => {
  // All databases of a server share its write-ahead log.
  useFreshServer();
  app = await startModelApp();
  app.provider.script("one", {
    pieces: Array.from({ length: PIECE_COUNT }, () => PIECE),
    pieceDelayMs: PIECE_DELAY_MS,
  });
});
afterAll(() => app.stop());

type UpdateCounts = { table: string; updates: number; hot: number };

async function getUpdateCounts(): Promise<Map<string, UpdateCounts>> {
  // Postgres updates its statistics up to a second late.
  await Bun.sleep(1_100);
  const rows = await app.parley.database<UpdateCounts[]>`
    select relname as table, n_tup_upd as updates, n_tup_hot_upd as hot from pg_stat_user_tables`;
  return new Map(rows.map((row) => [row.table, row]));
}

async function getWalPosition(): Promise<bigint> {
  const [row] = await app.parley.database<{ bytes: string }[]>`
    select (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::text as bytes`;
  return BigInt(row?.bytes ?? 0);
}

const countUnfinished = async () =>
  (await app.parley.database`select 1 from generations where status <> 'finished'`).length;

test("a long answer causes few writes, because updates are heap-only and text is only appended", async () => {
  const { parley } = app;
  const anna = await parley.register();
  const conversations = await Promise.all(Array.from({ length: ANSWER_COUNT }, () => createConversation(parley, anna)));
  await parley.database`checkpoint`;
  const walBefore = await getWalPosition();
  await Promise.all(
    conversations.map(async ({ id }) => {
      const json = { content: "Tell me a long story.", reply: true };
      const sendResponse = await parley.fetch(`/api/v1/conversations/${id}/messages`, {
        token: anna.access_token,
        json,
      });
      expect(sendResponse.status).toBe(201);
    }),
  );
  const countsBefore = await getUpdateCounts();
  await Bun.sleep(6_000);
  const countsAfter = await getUpdateCounts();
  expect(await countUnfinished()).toBe(ANSWER_COUNT);
  // While answers stream, only their leases are updated.
  const changedTables = [...countsAfter.values()]
    .map(({ table, updates, hot }) => {
      const previous = countsBefore.get(table);
      return { table, updates: updates - (previous?.updates ?? 0), hot: hot - (previous?.hot ?? 0) };
    })
    .filter(({ updates }) => updates > 0);
  const generations = changedTables.find(({ table }) => table === "generations");
  expect(generations?.updates).toBeGreaterThan(ANSWER_COUNT * 2);
  expect((generations?.hot ?? 0) / (generations?.updates ?? 0)).toBeGreaterThanOrEqual(HOT_SHARE_MIN);
  const [updates, hot] = [
    changedTables.reduce((sum, row) => sum + row.updates, 0),
    changedTables.reduce((sum, row) => sum + row.hot, 0),
  ];
  expect(hot / updates).toBeGreaterThanOrEqual(HOT_SHARE_MIN);

  await app.waitForValue(async () => ((await countUnfinished()) === 0 ? true : undefined), 15_000);
  const walBytes = Number((await getWalPosition()) - walBefore) / ANSWER_COUNT;
  if (process.env.PRINT_WRITES)
    console.error({ walBytes, generations, changed: changedTables, total: await getUpdateCounts() });
  expect(walBytes).toBeLessThan(WAL_BYTES_MAX);
  const storedAnswers = await parley.database<
    { content: string }[]
  >`select content from messages where role = 'assistant'`;
  expect(storedAnswers.map(({ content }) => content)).toEqual(conversations.map(() => PIECE.repeat(PIECE_COUNT)));
  // Every message and every finished answer updates the counters of the conversation and of the sender.
  for (const table of ["conversations", "members"]) {
    const tableUpdates = (await getUpdateCounts()).get(table);
    expect(tableUpdates?.updates).toBeGreaterThanOrEqual(ANSWER_COUNT);
    expect((tableUpdates?.hot ?? 0) / (tableUpdates?.updates ?? 0)).toBeGreaterThanOrEqual(HOT_SHARE_MIN);
  }
}, 60_000);
