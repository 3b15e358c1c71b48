import { afterEach, describe, expect, test } from "bun:test";
import { startApp, type TestApp } from "../support/app.ts";
import { createTestDatabase } from "../support/postgres.ts";
import { createRestClient } from "../support/rest.ts";
import {
  createConversationId,
  createUser,
  findMessageIds,
  searchMessages,
  sendMessage,
  waitForIndex,
} from "./search-client.ts";

let parley: TestApp | undefined;

afterEach(async () => {
  await parley?.stop();
  parley = undefined;
});

/** Restores the database's state from before the index existed. */
async function removeIndex({ database }: TestApp): Promise<void> {
  await database`delete from search_entries`;
  await database`delete from search_counts`;
  await database`update members set search_scope = 0`;
  await database`update search_state set language = '', before_id = null`;
}

describe("background indexing", () => {
  test("covers messages from before the index existed", async () => {
    parley = await startApp();
    const [anna, bob] = [await createUser(parley), await createUser(parley)];
    const conversations = [
      await createConversationId(parley, anna, [bob]),
      await createConversationId(parley, anna),
      await createConversationId(parley, bob),
    ];
    const ids: string[] = [];
    for (const [index, conversation] of conversations.entries())
      for (const n of [1, 2, 3]) ids.push(await sendMessage(index === 2 ? bob : anna, conversation, `oboe ${n}`));
    await waitForIndex(parley);
    await removeIndex(parley);
    await waitForIndex(parley);
    expect((await findMessageIds(anna, "oboe")).toSorted()).toEqual(ids.slice(0, 6).toSorted());
    expect((await findMessageIds(bob, "oboe")).toSorted()).toEqual([...ids.slice(0, 3), ...ids.slice(6)].toSorted());
    const scopes = await parley.database`select distinct search_scope from members`;
    expect(scopes.map(({ search_scope }) => search_scope)).toEqual([2]);
  });

  test("covers a range of messages that was added to the index's queue", async () => {
    parley = await startApp();
    const anna = await createUser(parley);
    const conversationId = await createConversationId(parley, anna);
    for (const n of [1, 2, 3, 4]) await sendMessage(anna, conversationId, `fagott ${n}`);
    await waitForIndex(parley);
    await parley.database`update messages set content = replace(content, 'fagott', 'cornet')`;
    await parley.database`select add_search_range(${conversationId}, 2, 3)`;
    await waitForIndex(parley);
    expect((await searchMessages(anna, "cornet")).map(({ seq }) => seq).toSorted()).toEqual([2, 3]);
  });

  test("starts again for all messages after the language changes", async () => {
    const testDatabase = await createTestDatabase();
    const startWithLanguage = (language: string) =>
      startApp({ database: testDatabase, config: { SEARCH_LANGUAGE: language } });
    parley = await startWithLanguage("english");
    let anna = await createUser(parley);
    const conversationId = await createConversationId(parley, anna);
    const id = await sendMessage(anna, conversationId, "Die Häuser und the houses");
    await waitForIndex(parley);
    expect(await findMessageIds(anna, "haus")).toEqual([]);
    expect(await findMessageIds(anna, "house")).toEqual([id]);
    await parley.stop();

    parley = await startWithLanguage("german");
    anna = createRestClient(parley, anna.account);
    for (let lookups = 0; (await findMessageIds(anna, "haus")).length === 0 && lookups < 200; lookups += 1)
      await Bun.sleep(50);
    expect(await findMessageIds(anna, "haus")).toEqual([id]);
    expect(await findMessageIds(anna, "und")).toEqual([id]);
    await waitForIndex(parley);
    await parley.stop();

    parley = await startWithLanguage("simple");
    await waitForIndex(parley);
    anna = createRestClient(parley, anna.account);
    expect(await findMessageIds(anna, "häuser")).toEqual([id]);
    await parley.stop();
    parley = undefined;
    await testDatabase.database.end();
  });
});
