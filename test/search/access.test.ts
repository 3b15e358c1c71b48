import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { startApp, type TestApp } from "../support/app.ts";
import { createPerson, find, findIds, openConversation, sendMessage, waitForIndex } from "./searcher.ts";

let parley: TestApp;

beforeAll(async () => {
  parley = await startApp();
});
afterAll(() => parley.stop());

describe("a search finds only what the caller can read now", () => {
  test("an outsider finds nothing, not even with the conversation's id", async () => {
    const [anna, mallory] = [await createPerson(parley), await createPerson(parley)];
    const conversation = await openConversation(parley, anna);
    await sendMessage(anna, conversation, "xylophone");
    for (const isIndexed of [false, true]) {
      if (isIndexed) await waitForIndex(parley);
      expect(await findIds(mallory, "xylophone")).toEqual([]);
      expect(await findIds(mallory, "xylo*")).toEqual([]);
      expect(await findIds(mallory, "xylophone", { conversation_id: conversation })).toEqual([]);
      expect((await findIds(anna, "xylophone")).length).toBe(1);
    }
  });

  test("a new member finds earlier messages, at once through the conversation and later through their own index marks", async () => {
    const [anna, bob] = [await createPerson(parley), await createPerson(parley)];
    const conversation = await openConversation(parley, anna);
    const id = await sendMessage(anna, conversation, "zeppelin");
    await waitForIndex(parley);
    await anna.request("POST", `/conversations/${conversation}/members`, { user_id: bob.id });
    expect(await findIds(bob, "zeppelin")).toEqual([id]);
    await waitForIndex(parley);
    expect(await findIds(bob, "zeppelin")).toEqual([id]);
    const [row] = await parley.database`select search_scope from members where user_id = ${bob.id}`;
    expect(row?.search_scope).toBe(2);
    const later = await sendMessage(bob, conversation, "a zeppelin again");
    await waitForIndex(parley);
    expect((await findIds(bob, "zeppelin")).toSorted()).toEqual([id, later].toSorted());
    expect((await findIds(anna, "zeppelin")).toSorted()).toEqual([id, later].toSorted());
  });

  test("a former member finds nothing, and everything again after rejoining", async () => {
    const [anna, bob] = [await createPerson(parley), await createPerson(parley)];
    const conversation = await openConversation(parley, anna, [bob]);
    const id = await sendMessage(anna, conversation, "accordion");
    await waitForIndex(parley);
    expect(await findIds(bob, "accordion")).toEqual([id]);
    const unindexed = await sendMessage(anna, conversation, "accordion two");
    expect((await anna.request("DELETE", `/conversations/${conversation}/members/${bob.id}`)).status).toBe(204);
    expect(await findIds(bob, "accordion")).toEqual([]);
    await waitForIndex(parley);
    expect(await findIds(bob, "accordion")).toEqual([]);
    expect(await findIds(bob, "accordion", { conversation_id: conversation })).toEqual([]);
    await anna.request("POST", `/conversations/${conversation}/members`, { user_id: bob.id });
    expect((await findIds(bob, "accordion")).toSorted()).toEqual([id, unindexed].toSorted());
  });

  test("members of a conversation that is too large for marks find its messages", async () => {
    const anna = await createPerson(parley);
    const people = await Promise.all(Array.from({ length: 18 }, () => createPerson(parley)));
    const conversation = await openConversation(parley, anna, people);
    const id = await sendMessage(anna, conversation, "saxophone");
    await waitForIndex(parley);
    for (const person of [anna, ...people]) expect(await findIds(person, "saxophone")).toEqual([id]);
    const [row] = await parley.database`
      select count(*) filter (where search_scope = 0)::int as count from members where conversation_id = ${conversation}`;
    expect(row?.count).toBe(3);
  });

  test("deleted messages and conversations are gone at once, and soon from the index", async () => {
    const anna = await createPerson(parley);
    const [one, two] = [await openConversation(parley, anna), await openConversation(parley, anna)];
    const id = await sendMessage(anna, one, "tambourine");
    await sendMessage(anna, two, "tambourine");
    await waitForIndex(parley);
    expect((await findIds(anna, "tambourine")).length).toBe(2);
    await anna.request("DELETE", `/conversations/${two}`);
    expect(await findIds(anna, "tambourine")).toEqual([id]);
    await anna.request("DELETE", `/conversations/${one}/messages/${id}`);
    expect(await findIds(anna, "tambourine")).toEqual([]);
    const isStored = async () =>
      (await parley.database`select from search_entries where conversation_id in (${one}, ${two})`).length > 0;
    for (let lookups = 0; (await isStored()) && lookups < 200; lookups += 1) await Bun.sleep(50);
    expect(await isStored()).toBe(false);
    expect(await findIds(anna, "tambourine")).toEqual([]);
  });

  test("an edited message is found by its new text only, at once and later", async () => {
    const anna = await createPerson(parley);
    const conversation = await openConversation(parley, anna);
    const id = await sendMessage(anna, conversation, "trombone");
    await waitForIndex(parley);
    await anna.request("PATCH", `/conversations/${conversation}/messages/${id}`, { content: "bassoon" });
    for (const isIndexed of [false, true]) {
      if (isIndexed) await waitForIndex(parley);
      expect(await findIds(anna, "trombone")).toEqual([]);
      const [hit] = await find(anna, "bassoon");
      expect(hit?.snippet).toBe("<mark>bassoon</mark>");
    }
  });

  test("a key needs the scope messages:read", async () => {
    const anna = await createPerson(parley);
    await sendMessage(anna, await openConversation(parley, anna), "mandolin");
    const ask = async (scopes: string[]) => {
      const { body } = await anna.request<{ key: string }>("POST", "/api-keys", { name: "key", scopes });
      return parley.fetch("/api/v1/search?q=mandolin", { token: body.key });
    };
    expect((await ask(["conversations:read"])).status).toBe(403);
    const allowed = await ask(["messages:read"]);
    expect(allowed.status).toBe(200);
    expect(((await allowed.json()) as { data: unknown[] }).data.length).toBe(1);
    expect((await parley.fetch("/api/v1/search?q=mandolin")).status).toBe(401);
  });
});
