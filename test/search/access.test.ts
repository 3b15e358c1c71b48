import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { startApp, type TestApp } from "../support/app.ts";
import { createConversationId, createUser, findIds, search, sendMessage, waitForIndex } from "./search-client.ts";

let parley: TestApp;

beforeAll(async () => {
  parley = await startApp();
});
afterAll(() => parley.stop());

describe("in a search", () => {
  test("an outsider finds nothing, even with the conversation's id", async () => {
    const [anna, mallory] = [await createUser(parley), await createUser(parley)];
    const conversation = await createConversationId(parley, anna);
    await sendMessage(anna, conversation, "xylophone");
    for (const isIndexed of [false, true]) {
      if (isIndexed) await waitForIndex(parley);
      expect(await findIds(mallory, "xylophone")).toEqual([]);
      expect(await findIds(mallory, "xylo*")).toEqual([]);
      expect(await findIds(mallory, "xylophone", { conversation_id: conversation })).toEqual([]);
      expect((await findIds(anna, "xylophone")).length).toBe(1);
    }
  });

  test("a new member finds earlier messages immediately, and also after the index marks are updated", async () => {
    const [anna, bob] = [await createUser(parley), await createUser(parley)];
    const conversation = await createConversationId(parley, anna);
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

  test("a removed member finds nothing, but finds everything again after rejoining", async () => {
    const [anna, bob] = [await createUser(parley), await createUser(parley)];
    const conversation = await createConversationId(parley, anna, [bob]);
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

  test("members of a conversation that is too large for index marks find its messages", async () => {
    const anna = await createUser(parley);
    const members = await Promise.all(Array.from({ length: 18 }, () => createUser(parley)));
    const conversation = await createConversationId(parley, anna, members);
    const id = await sendMessage(anna, conversation, "saxophone");
    await waitForIndex(parley);
    for (const member of [anna, ...members]) expect(await findIds(member, "saxophone")).toEqual([id]);
    const [row] = await parley.database`
      select count(*) filter (where search_scope = 0)::int as count from members where conversation_id = ${conversation}`;
    expect(row?.count).toBe(3);
  });

  test("deleted messages and conversations are not found, and are soon removed from the index", async () => {
    const anna = await createUser(parley);
    const [one, two] = [await createConversationId(parley, anna), await createConversationId(parley, anna)];
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

  test("an edited message is found only by its new text, before and after indexing", async () => {
    const anna = await createUser(parley);
    const conversation = await createConversationId(parley, anna);
    const id = await sendMessage(anna, conversation, "trombone");
    await waitForIndex(parley);
    await anna.request("PATCH", `/conversations/${conversation}/messages/${id}`, { content: "bassoon" });
    for (const isIndexed of [false, true]) {
      if (isIndexed) await waitForIndex(parley);
      expect(await findIds(anna, "trombone")).toEqual([]);
      const [hit] = await search(anna, "bassoon");
      expect(hit?.snippet).toBe("<mark>bassoon</mark>");
    }
  });

  test("an API key needs the scope messages:read", async () => {
    const anna = await createUser(parley);
    await sendMessage(anna, await createConversationId(parley, anna), "mandolin");
    const searchWithKey = async (scopes: string[]) => {
      const { body } = await anna.request<{ key: string }>("POST", "/api-keys", { name: "key", scopes });
      return parley.fetch("/api/v1/search?q=mandolin", { token: body.key });
    };
    expect((await searchWithKey(["conversations:read"])).status).toBe(403);
    const allowed = await searchWithKey(["messages:read"]);
    expect(allowed.status).toBe(200);
    expect(((await allowed.json()) as { data: unknown[] }).data.length).toBe(1);
    expect((await parley.fetch("/api/v1/search?q=mandolin")).status).toBe(401);
  });
});
