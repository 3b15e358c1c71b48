import { afterAll, beforeAll, expect, test } from "bun:test";
import { type Database, openDatabase } from "../../src/db/client.ts";
import { startApp, type TestApp } from "../support/app.ts";
import { createTestDatabase } from "../support/postgres.ts";
import { createRest, type Rest } from "../support/rest.ts";
import { createPerson, findIds, openConversation, sendMessage, waitForIndex } from "./searcher.ts";

let instances: [TestApp, TestApp];
let pools: Database[];
let anna: Rest;
let conversation: string;

beforeAll(async () => {
  const shared = await createTestDatabase();
  const second = openDatabase({ target: shared.target, poolSize: 10 });
  pools = [shared.database, second];
  const start = (database: Database) => startApp({ database: { ...shared, database } });
  instances = [await start(shared.database), await start(second)];
  anna = await createPerson(instances[0]);
  conversation = await openConversation(instances[0], anna);
});
afterAll(async () => {
  for (const instance of instances) await instance.stop();
  for (const pool of pools) await pool.end();
});

/** Pauses the indexer in the middle of a batch until `release` is called. @returns its Postgres backend's pid. */
async function holdIndexer(database: Database): Promise<{ pid: number; release(): Promise<void> }> {
  const released = Promise.withResolvers<void>();
  const locked = Promise.withResolvers<number>();
  const holding = database.begin(async (sql) => {
    await sql`select from search_counts for update`;
    const [row] = await sql<{ pid: number }[]>`select pg_backend_pid() as pid`;
    locked.resolve(row?.pid ?? 0);
    await released.promise;
  });
  const holder = await locked.promise;
  const release = async () => {
    released.resolve();
    await holding;
  };
  for (;;) {
    const [row] = await database<{ pid: number }[]>`
      select pid from pg_stat_activity where ${holder} = any (pg_blocking_pids(pid))`;
    if (row) return { pid: row.pid, release };
    await Bun.sleep(20);
  }
}

test("a message sent on one instance is found on another, at once and from the index", async () => {
  const id = await sendMessage(anna, conversation, "glockenspiel");
  const elsewhere = createRest(instances[1], anna.account);
  expect(await findIds(elsewhere, "glockenspiel")).toEqual([id]);
  await waitForIndex(instances[0]);
  expect(await findIds(elsewhere, "glockenspiel")).toEqual([id]);
});

test("a batch whose connection is lost is repeated; its messages are found all the time, and never twice", async () => {
  const [{ database }] = instances;
  await waitForIndex(instances[0]);
  const ids = [
    await sendMessage(anna, conversation, "marimba one"),
    await sendMessage(anna, conversation, "marimba two"),
  ];
  const { pid, release } = await holdIndexer(database);
  expect((await findIds(anna, "marimba")).toSorted()).toEqual(ids.toSorted());
  await database`select pg_terminate_backend(${pid})`;
  expect((await findIds(anna, "marimba")).toSorted()).toEqual(ids.toSorted());
  expect((await database`select from search_outbox`).length).toBeGreaterThan(0);
  await release();
  await waitForIndex(instances[0]);
  expect((await findIds(anna, "marimba")).toSorted()).toEqual(ids.toSorted());
  const [row] = await database`select count(*)::int as count from search_entries`;
  const [messages] = await database`select count(*)::int as count from messages`;
  expect(row?.count).toBe(messages?.count);
});

test("a send does not wait for the indexer", async () => {
  const [{ database }] = instances;
  await sendMessage(anna, conversation, "celesta");
  const { release } = await holdIndexer(database);
  const id = await sendMessage(anna, conversation, "celesta two");
  expect(await findIds(anna, "celesta two")).toEqual([id]);
  await release();
});

test("300 messages in a row are all found while the indexer is paused", async () => {
  const [{ database }] = instances;
  await waitForIndex(instances[0]);
  const ids = [await sendMessage(anna, conversation, "balalaika")];
  const { release } = await holdIndexer(database);
  while (ids.length < 300)
    ids.push(...(await Promise.all(Array.from({ length: 10 }, () => sendMessage(anna, conversation, "balalaika")))));
  const { rows } = await anna.all<{ message_id: string }>("/search?q=balalaika", 200);
  expect(rows.map(({ message_id }) => message_id).toSorted()).toEqual(ids.toSorted());
  await release();
});
