import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { createId } from "../../src/lib/id.ts";
import type { Conversation } from "../../src/protocol/conversation.ts";
import { type Account, startApp, type TestApp } from "../support/app.ts";
import { createConversation } from "../support/conversation.ts";
import { createRestClient, type RestClient, type RestResponse } from "../support/rest.ts";

let parley: TestApp;
let account: Account;
let anna: RestClient;

beforeAll(async () => {
  // These tests change the database directly, which the read cache wouldn't notice.
  parley = await startApp({ config: { READ_CACHE: "off" } });
});
afterAll(() => parley.stop());

async function registerAnna(): Promise<void> {
  account = await parley.register();
  anna = createRestClient(parley, account);
}

async function createConversations(count: number): Promise<string[]> {
  const ids: string[] = [];
  for (let n = 0; n < count; n += 1) ids.push((await createConversation(parley, account)).id);
  return ids;
}

const sendMessage = (rest: RestClient, id: string) =>
  rest.request("POST", `/conversations/${id}/messages`, { content: "x", reply: false });
const listIds = async (limit: number) =>
  (await anna.listAll<Conversation>("/conversations", limit)).rows.map((conversation) => conversation.id);
const encodeCursor = (...parts: unknown[]) => Buffer.from(JSON.stringify(parts)).toString("base64url");

describe("the list of conversations", () => {
  test("contains only the conversations that the user is a member of", async () => {
    await registerAnna();
    expect((await anna.get("/conversations")).body).toEqual({ data: [], next_cursor: null });
    const otherAccount = await parley.register();
    await createConversation(parley, otherAccount);
    const sharedConversation = await createConversation(parley, otherAccount, [account]);
    const { body } = await anna.get<{ data: Conversation[] }>("/conversations");
    expect(body.data.map(({ id, role }) => [id, role])).toEqual([[sharedConversation.id, "member"]]);
    expect((await anna.get<Conversation>(`/conversations/${sharedConversation.id}`)).body).toEqual(
      body.data[0] as Conversation,
    );
  });

  test("is sorted by the latest activity of any kind", async () => {
    await registerAnna();
    const [oldestId = "", middleId = "", newestId = ""] = await createConversations(3);
    expect(await listIds(50)).toEqual([newestId, middleId, oldestId]);
    await sendMessage(anna, oldestId);
    expect(await listIds(50)).toEqual([oldestId, newestId, middleId]);
    await anna.request("PATCH", `/conversations/${middleId}`, { title: "b" });
    expect(await listIds(50)).toEqual([middleId, oldestId, newestId]);
    await anna.get(`/conversations/${newestId}/messages`);
    expect(await listIds(50)).toEqual([middleId, oldestId, newestId]);
  });

  test("has pages of any size, with a link to the next page", async () => {
    await registerAnna();
    const ids = (await createConversations(7)).reverse();
    for (let limit = 1; limit <= 8; limit += 1) {
      const { rows, pages } = await anna.listAll<Conversation>("/conversations", limit);
      expect(rows.map(({ id }) => id)).toEqual(ids);
      expect(pages).toHaveLength(Math.ceil(7 / limit));
    }
    const sameTime = new Date();
    await parley.database`update conversations set updated_at = ${sameTime} where id = any (${ids})`;
    for (const limit of [1, 3]) expect(await listIds(limit)).toEqual([...ids].sort().reverse());
  });

  test("neither repeats nor skips an inactive conversation while others are active", async () => {
    await registerAnna();
    const ids = await createConversations(9);
    const activeIds = ids.filter((_, index) => index % 2 === 1);
    const inactiveIds = ids.filter((_, index) => index % 2 === 0).reverse();
    const listedIds: string[] = [];
    for (let nextCursor: string | null = ""; nextCursor !== null; ) {
      const page: RestResponse<{ data: Conversation[]; next_cursor: string | null }> = await anna.get(
        `/conversations?limit=2${nextCursor && `&cursor=${nextCursor}`}`,
      );
      listedIds.push(...page.body.data.map(({ id }) => id));
      nextCursor = page.body.next_cursor;
      for (const id of activeIds) await sendMessage(anna, id);
    }
    expect(listedIds).toHaveLength(new Set(listedIds).size);
    expect(listedIds.filter((id) => inactiveIds.includes(id))).toEqual(inactiveIds);
  });

  test("has 50 rows per page by default, and 200 at most", async () => {
    await registerAnna();
    const ids = Array.from({ length: 205 }, () => createId());
    await parley.database`
      insert into conversations (id, kind, reply_mode) select id, 'group', 'never' from unnest(${ids}::uuid[]) as id`;
    await parley.database`
      insert into members (conversation_id, user_id, role) select id, ${account.user.id}, 'owner' from unnest(${ids}::uuid[]) as id`;
    const countRows = async (query: string) =>
      (await anna.get<{ data: unknown[] }>(`/conversations${query}`)).body.data.length;
    expect(await countRows("")).toBe(50);
    expect(await countRows("?limit=200")).toBe(200);
    expect(await countRows("?limit=201")).toBe(200);
    expect(await countRows("?limit=1000000")).toBe(200);
    expect((await anna.listAll("/conversations", 1000)).pages).toEqual([200, 5]);
  });

  const cursors: [string, string][] = [
    ["nonsense", "nonsense"],
    ["invalid JSON", Buffer.from("{").toString("base64url")],
    ["a different version", encodeCursor("v0", "2026-01-01T00:00:00.000000Z", createId())],
    ["too few values", encodeCursor("v1", "2026-01-01T00:00:00.000000Z")],
    ["a number", encodeCursor("v1", 1, createId())],
    ["an invalid UUID", encodeCursor("v1", "2026-01-01T00:00:00.000000Z", "x")],
    ["an invalid time", encodeCursor("v1", "yesterday", createId())],
    ["a time that only JavaScript accepts", encodeCursor("v1", "1", createId())],
    ["a nonexistent day", encodeCursor("v1", "2026-02-30T00:00:00.000000Z", createId())],
    ["the year 0", encodeCursor("v1", "0000-01-01T00:00:00.000000Z", createId())],
    ["a NUL", encodeCursor("v1", "2026-01-01T00:00:00.000000Z\0", createId())],
    ["the values of a different list's cursor", encodeCursor("v1", createId())],
  ];
  test.each(cursors)("returns 400 for a cursor with %s", async (_name, cursor) => {
    await registerAnna();
    expect(await anna.requestProblem("GET", `/conversations?cursor=${cursor}`)).toMatchObject({
      status: 400,
      code: "bad_cursor",
    });
  });

  test.each(["0", "-1", "1.5", "x", ""])("returns 422 for the limit %p", async (limit) => {
    await registerAnna();
    expect(await anna.requestProblem("GET", `/conversations?limit=${limit}`)).toMatchObject({
      status: 422,
      errors: [{ pointer: "#/query/limit" }],
    });
  });
});
