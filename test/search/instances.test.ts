import { afterAll, beforeAll, expect, test } from "bun:test";
import { type Database, openDatabase } from "../../src/db/client.ts";
import { startApp, type TestApp } from "../support/app.ts";
import { createTestDatabase } from "../support/postgres.ts";
import { createRestClient, type RestClient } from "../support/rest.ts";
import { createConversationId, createUser, findMessageIds, sendMessage, waitForIndex } from "./search-client.ts";

let instances: [TestApp, TestApp];
let pools: Database[];
let anna: RestClient;
let conversationId: string;

beforeAll(async () => {
  const testDatabase = await createTestDatabase();
  const secondPool = openDatabase({ target: testDatabase.target, poolSize: 10 });
  pools = [testDatabase.database, secondPool];
  const startInstance = (database: Database) => startApp({ database: { ...testDatabase, database } });
  instances = [await startInstance(testDatabase.database), await startInstance(secondPool)];
  anna = await createUser(instances[0]);
  conversationId = await createConversationId(instances[0], anna);
});
afterAll(async () => {
  for (const instance of instances) await instance.stop();
  for (const pool of pools) await pool.end();
});

/** Pauses the indexer in the middle of a batch until `resume` is called. `pid` is the process id of its Postgres connection. */
async function pauseIndexer(database: Database): Promise<{ pid: number; resume(): Promise<void> }> {
  const resumed = Promise.withResolvers<void>();
  const locked = Promise.withResolvers<number>();
  const transaction = database.begin(async (sql) => {
    await sql`select from search_counts for update`;
    const [row] = await sql<{ pid: number }[]>`select pg_backend_pid() as pid`;
    locked.resolve(row?.pid ?? 0);
    await resumed.promise;
  });
  const lockPid = await locked.promise;
  const resume = async () => {
    resumed.resolve();
    await transaction;
  };
  for (;;) {
    const [row] = await database<{ pid: number }[]>`
      select pid from pg_stat_activity where ${lockPid} = any (pg_blocking_pids(pid))`;
    if (row) return { pid: row.pid, resume };
    await Bun.sleep(20);
  }
}

test("a message sent on one instance is found on another, before and after indexing", async () => {
  const id = await sendMessage(anna, conversationId, "glockenspiel");
  const annaOnOtherInstance = createRestClient(instances[1], anna.account);
  expect(await findMessageIds(annaOnOtherInstance, "glockenspiel")).toEqual([id]);
  await waitForIndex(instances[0]);
  expect(await findMessageIds(annaOnOtherInstance, "glockenspiel")).toEqual([id]);
});

test("a batch whose connection is lost is retried, and its messages are always found exactly once", async () => {
  const [{ database }] = instances;
  await waitForIndex(instances[0]);
  const ids = [
    await sendMessage(anna, conversationId, "marimba one"),
    await sendMessage(anna, conversationId, "marimba two"),
  ];
  const { pid, resume } = await pauseIndexer(database);
  expect((await findMessageIds(anna, "marimba")).toSorted()).toEqual(ids.toSorted());
  await database`select pg_terminate_backend(${pid})`;
  expect((await findMessageIds(anna, "marimba")).toSorted()).toEqual(ids.toSorted());
  expect((await database`select from search_outbox`).length).toBeGreaterThan(0);
  await resume();
  await waitForIndex(instances[0]);
  expect((await findMessageIds(anna, "marimba")).toSorted()).toEqual(ids.toSorted());
  const [entries] = await database`select count(*)::int as count from search_entries`;
  const [messages] = await database`select count(*)::int as count from messages`;
  expect(entries?.count).toBe(messages?.count);
});

test("sending a message does not wait for the indexer", async () => {
  const [{ database }] = instances;
  await sendMessage(anna, conversationId, "celesta");
  const { resume } = await pauseIndexer(database);
  const id = await sendMessage(anna, conversationId, "celesta two");
  expect(await findMessageIds(anna, "celesta two")).toEqual([id]);
  await resume();
});

test("300 messages sent in a row are all found while the indexer is paused", async () => {
  const [{ database }] = instances;
  await waitForIndex(instances[0]);
  const ids = [await sendMessage(anna, conversationId, "balalaika")];
  const { resume } = await pauseIndexer(database);
  while (ids.length < 300)
    ids.push(...(await Promise.all(Array.from({ length: 10 }, () => sendMessage(anna, conversationId, "balalaika")))));
  const { rows } = await anna.listAll<{ message_id: string }>("/search?q=balalaika", 200);
  expect(rows.map(({ message_id }) => message_id).toSorted()).toEqual(ids.toSorted());
  await resume();
});
