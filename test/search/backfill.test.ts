import { afterEach, describe, expect, test } from "bun:test";
import { startApp, type TestApp } from "../support/app.ts";
import { createTestDatabase } from "../support/postgres.ts";
import { createRest } from "../support/rest.ts";
import { createPerson, find, findIds, openConversation, sendMessage, waitForIndex } from "./searcher.ts";

let parley: TestApp | undefined;

afterEach(async () => {
  await parley?.stop();
  parley = undefined;
});

/** Like a database from before the index existed. */
async function forgetIndex({ database }: TestApp): Promise<void> {
  await database`delete from search_entries`;
  await database`delete from search_counts`;
  await database`update members set search_scope = 0`;
  await database`update search_state set language = '', before_id = null`;
}

describe("the background indexing", () => {
  test("covers messages from before the index existed", async () => {
    parley = await startApp();
    const [anna, bob] = [await createPerson(parley), await createPerson(parley)];
    const conversations = [
      await openConversation(parley, anna, [bob]),
      await openConversation(parley, anna),
      await openConversation(parley, bob),
    ];
    const ids: string[] = [];
    for (const [index, conversation] of conversations.entries())
      for (const n of [1, 2, 3]) ids.push(await sendMessage(index === 2 ? bob : anna, conversation, `oboe ${n}`));
    await waitForIndex(parley);
    await forgetIndex(parley);
    await waitForIndex(parley);
    expect((await findIds(anna, "oboe")).toSorted()).toEqual(ids.slice(0, 6).toSorted());
    expect((await findIds(bob, "oboe")).toSorted()).toEqual([...ids.slice(0, 3), ...ids.slice(6)].toSorted());
    const scopes = await parley.database`select distinct search_scope from members`;
    expect(scopes.map(({ search_scope }) => search_scope)).toEqual([2]);
  });

  test("covers a range that was stored by other means", async () => {
    parley = await startApp();
    const anna = await createPerson(parley);
    const conversation = await openConversation(parley, anna);
    for (const n of [1, 2, 3, 4]) await sendMessage(anna, conversation, `fagott ${n}`);
    await waitForIndex(parley);
    await parley.database`update messages set content = replace(content, 'fagott', 'cornet')`;
    await parley.database`select add_search_range(${conversation}, 2, 3)`;
    await waitForIndex(parley);
    expect((await find(anna, "cornet")).map(({ seq }) => seq).toSorted()).toEqual([2, 3]);
  });

  test("repeats for all messages after the language was changed", async () => {
    const shared = await createTestDatabase();
    const start = (language: string) => startApp({ database: shared, config: { SEARCH_LANGUAGE: language } });
    parley = await start("english");
    let anna = await createPerson(parley);
    const conversation = await openConversation(parley, anna);
    const id = await sendMessage(anna, conversation, "Die Häuser und the houses");
    await waitForIndex(parley);
    expect(await findIds(anna, "haus")).toEqual([]);
    expect(await findIds(anna, "house")).toEqual([id]);
    await parley.stop();

    parley = await start("german");
    anna = createRest(parley, anna.account);
    for (let lookups = 0; (await findIds(anna, "haus")).length === 0 && lookups < 200; lookups += 1)
      await Bun.sleep(50);
    expect(await findIds(anna, "haus")).toEqual([id]);
    expect(await findIds(anna, "und")).toEqual([id]);
    await waitForIndex(parley);
    await parley.stop();

    parley = await start("simple");
    await waitForIndex(parley);
    anna = createRest(parley, anna.account);
    expect(await findIds(anna, "häuser")).toEqual([id]);
    await parley.stop();
    parley = undefined;
    await shared.database.end();
  });
});
