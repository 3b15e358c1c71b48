import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { startApp, type TestApp } from "../support/app.ts";
import {
  createConversationId,
  createUser,
  findMessageIds,
  searchMessages,
  sendMessage,
  waitForIndex,
} from "./search-client.ts";

let parley: TestApp;

beforeAll(async () => {
  parley = await startApp();
});
afterAll(() => parley.stop());

describe("in a search", () => {
  test("an outsider finds nothing, even with the conversation's id", async () => {
    const [anna, mallory] = [await createUser(parley), await createUser(parley)];
    const conversationId = await createConversationId(parley, anna);
    await sendMessage(anna, conversationId, "xylophone");
    for (const isIndexed of [false, true]) {
      if (isIndexed) await waitForIndex(parley);
      expect(await findMessageIds(mallory, "xylophone")).toEqual([]);
      expect(await findMessageIds(mallory, "xylo*")).toEqual([]);
      expect(await findMessageIds(mallory, "xylophone", { conversation_id: conversationId })).toEqual([]);
      expect((await findMessageIds(anna, "xylophone")).length).toBe(1);
    }
  });

  test("a new member finds earlier messages immediately, and also after the index marks are updated", async () => {
    const [anna, bob] = [await createUser(parley), await createUser(parley)];
    const conversationId = await createConversationId(parley, anna);
    const id = await sendMessage(anna, conversationId, "zeppelin");
    await waitForIndex(parley);
    await anna.request("POST", `/conversations/${conversationId}/members`, { user_id: bob.id });
    expect(await findMessageIds(bob, "zeppelin")).toEqual([id]);
    await waitForIndex(parley);
    expect(await findMessageIds(bob, "zeppelin")).toEqual([id]);
    const [row] = await parley.database`select search_scope from members where user_id = ${bob.id}`;
    expect(row?.search_scope).toBe(2);
    const laterId = await sendMessage(bob, conversationId, "a zeppelin again");
    await waitForIndex(parley);
    expect((await findMessageIds(bob, "zeppelin")).toSorted()).toEqual([id, laterId].toSorted());
    expect((await findMessageIds(anna, "zeppelin")).toSorted()).toEqual([id, laterId].toSorted());
  });

  test("a removed member finds nothing, but finds everything again after rejoining", async () => {
    const [anna, bob] = [await createUser(parley), await createUser(parley)];
    const conversationId = await createConversationId(parley, anna, [bob]);
    const id = await sendMessage(anna, conversationId, "accordion");
    await waitForIndex(parley);
    expect(await findMessageIds(bob, "accordion")).toEqual([id]);
    const unindexedId = await sendMessage(anna, conversationId, "accordion two");
    expect((await anna.request("DELETE", `/conversations/${conversationId}/members/${bob.id}`)).status).toBe(204);
    expect(await findMessageIds(bob, "accordion")).toEqual([]);
    await waitForIndex(parley);
    expect(await findMessageIds(bob, "accordion")).toEqual([]);
    expect(await findMessageIds(bob, "accordion", { conversation_id: conversationId })).toEqual([]);
    await anna.request("POST", `/conversations/${conversationId}/members`, { user_id: bob.id });
    expect((await findMessageIds(bob, "accordion")).toSorted()).toEqual([id, unindexedId].toSorted());
  });

  test("members of a conversation that is too large for index marks find its messages", async () => {
    const anna = await createUser(parley);
    const members = await Promise.all(Array.from({ length: 18 }, () => createUser(parley)));
    const conversationId = await createConversationId(parley, anna, members);
    const id = await sendMessage(anna, conversationId, "saxophone");
    await waitForIndex(parley);
    for (const member of [anna, ...members]) expect(await findMessageIds(member, "saxophone")).toEqual([id]);
    const [row] = await parley.database`
      select count(*) filter (where search_scope = 0)::int as count from members where conversation_id = ${conversationId}`;
    expect(row?.count).toBe(3);
  });

  test("deleted messages and conversations are not found, and are soon removed from the index", async () => {
    const anna = await createUser(parley);
    const [firstId, secondId] = [await createConversationId(parley, anna), await createConversationId(parley, anna)];
    const id = await sendMessage(anna, firstId, "tambourine");
    await sendMessage(anna, secondId, "tambourine");
    await waitForIndex(parley);
    expect((await findMessageIds(anna, "tambourine")).length).toBe(2);
    await anna.request("DELETE", `/conversations/${secondId}`);
    expect(await findMessageIds(anna, "tambourine")).toEqual([id]);
    await anna.request("DELETE", `/conversations/${firstId}/messages/${id}`);
    expect(await findMessageIds(anna, "tambourine")).toEqual([]);
    const isStored = async () =>
      (await parley.database`select from search_entries where conversation_id in (${firstId}, ${secondId})`).length > 0;
    for (let lookups = 0; (await isStored()) && lookups < 200; lookups += 1) await Bun.sleep(50);
    expect(await isStored()).toBe(false);
    expect(await findMessageIds(anna, "tambourine")).toEqual([]);
  });

  test("an edited message is found only by its new text, before and after indexing", async () => {
    const anna = await createUser(parley);
    const conversationId = await createConversationId(parley, anna);
    const id = await sendMessage(anna, conversationId, "trombone");
    await waitForIndex(parley);
    await anna.request("PATCH", `/conversations/${conversationId}/messages/${id}`, { content: "bassoon" });
    for (const isIndexed of [false, true]) {
      if (isIndexed) await waitForIndex(parley);
      expect(await findMessageIds(anna, "trombone")).toEqual([]);
      const [hit] = await searchMessages(anna, "bassoon");
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
    const allowedResponse = await searchWithKey(["messages:read"]);
    expect(allowedResponse.status).toBe(200);
    expect(((await allowedResponse.json()) as { data: unknown[] }).data.length).toBe(1);
    expect((await parley.fetch("/api/v1/search?q=mandolin")).status).toBe(401);
  });
});
