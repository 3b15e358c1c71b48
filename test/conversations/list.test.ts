import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { createId } from "../../src/lib/id.ts";
import type { Conversation } from "../../src/protocol/conversation.ts";
import { type Account, startApp, type TestApp } from "../support/app.ts";
import { createConversation } from "../support/conversation.ts";
import { createRest, type Rest, type RestResponse } from "../support/rest.ts";

let parley: TestApp;
let account: Account;
let anna: Rest;

beforeAll(async () => {
  // The test changes the database directly.
  parley = await startApp({ config: { READ_CACHE: "off" } });
});
afterAll(() => parley.stop());

async function createUser(): Promise<void> {
  account = await parley.register();
  anna = createRest(parley, account);
}

async function createMany(count: number): Promise<string[]> {
  const ids: string[] = [];
  for (let n = 0; n < count; n += 1) ids.push((await createConversation(parley, account)).id);
  return ids;
}

const say = (rest: Rest, id: string) =>
  rest.request("POST", `/conversations/${id}/messages`, { content: "x", reply: false });
const listIds = async (limit: number) =>
  (await anna.all<Conversation>("/conversations", limit)).rows.map((conversation) => conversation.id);
const encode = (...parts: unknown[]) => Buffer.from(JSON.stringify(parts)).toString("base64url");

describe("the list of conversations", () => {
  test("is empty at first, and contains only the user's own", async () => {
    await createUser();
    expect((await anna.get("/conversations")).body).toEqual({ data: [], next_cursor: null });
    const other = await parley.register();
    await createConversation(parley, other);
    const mine = await createConversation(parley, other, [account]);
    const { body } = await anna.get<{ data: Conversation[] }>("/conversations");
    expect(body.data.map(({ id, role }) => [id, role])).toEqual([[mine.id, "member"]]);
    expect((await anna.get<Conversation>(`/conversations/${mine.id}`)).body).toEqual(body.data[0] as Conversation);
  });

  test("is sorted by latest activity of any kind", async () => {
    await createUser();
    const [a = "", b = "", c = ""] = await createMany(3);
    expect(await listIds(50)).toEqual([c, b, a]);
    await say(anna, a);
    expect(await listIds(50)).toEqual([a, c, b]);
    await anna.request("PATCH", `/conversations/${b}`, { title: "b" });
    expect(await listIds(50)).toEqual([b, a, c]);
    await anna.get(`/conversations/${c}/messages`);
    expect(await listIds(50)).toEqual([b, a, c]);
  });

  test("has pages of any size, each row once, with a link to the next", async () => {
    await createUser();
    const ids = (await createMany(7)).reverse();
    for (let limit = 1; limit <= 8; limit += 1) {
      const { rows, pages } = await anna.all<Conversation>("/conversations", limit);
      expect(rows.map(({ id }) => id)).toEqual(ids);
      expect(pages).toHaveLength(Math.ceil(7 / limit));
    }
    const same = new Date();
    await parley.database`update conversations set updated_at = ${same} where id = any (${ids})`;
    for (const limit of [1, 3]) expect(await listIds(limit)).toEqual([...ids].sort().reverse());
  });

  test("neither repeats nor loses a quiet conversation while others are busy", async () => {
    await createUser();
    const ids = await createMany(9);
    const busy = ids.filter((_, index) => index % 2 === 1);
    const quiet = ids.filter((_, index) => index % 2 === 0).reverse();
    const seen: string[] = [];
    for (let next: string | null = ""; next !== null; ) {
      const page: RestResponse<{ data: Conversation[]; next_cursor: string | null }> = await anna.get(
        `/conversations?limit=2${next && `&cursor=${next}`}`,
      );
      seen.push(...page.body.data.map(({ id }) => id));
      next = page.body.next_cursor;
      for (const id of busy) await say(anna, id);
    }
    expect(seen).toHaveLength(new Set(seen).size);
    expect(seen.filter((id) => quiet.includes(id))).toEqual(quiet);
  });

  test("has 50 rows per page by default, or the limit up to 200", async () => {
    await createUser();
    const ids = Array.from({ length: 205 }, () => createId());
    await parley.database`
      insert into conversations (id, kind, reply_mode) select id, 'group', 'never' from unnest(${ids}::uuid[]) as id`;
    await parley.database`
      insert into members (conversation_id, user_id, role) select id, ${account.user.id}, 'owner' from unnest(${ids}::uuid[]) as id`;
    const rowsOf = async (query: string) =>
      (await anna.get<{ data: unknown[] }>(`/conversations${query}`)).body.data.length;
    expect(await rowsOf("")).toBe(50);
    expect(await rowsOf("?limit=200")).toBe(200);
    expect(await rowsOf("?limit=201")).toBe(200);
    expect(await rowsOf("?limit=1000000")).toBe(200);
    expect((await anna.all("/conversations", 1000)).pages).toEqual([200, 5]);
  });

  const cursors: [string, string][] = [
    ["nonsense", "nonsense"],
    ["invalid JSON", Buffer.from("{").toString("base64url")],
    ["another version", encode("v0", "2026-01-01T00:00:00.000000Z", createId())],
    ["too few values", encode("v1", "2026-01-01T00:00:00.000000Z")],
    ["a number", encode("v1", 1, createId())],
    ["an invalid UUID", encode("v1", "2026-01-01T00:00:00.000000Z", "x")],
    ["an invalid time", encode("v1", "yesterday", createId())],
    ["a time that only JavaScript accepts", encode("v1", "1", createId())],
    ["a nonexistent day", encode("v1", "2026-02-30T00:00:00.000000Z", createId())],
    ["the year 0", encode("v1", "0000-01-01T00:00:00.000000Z", createId())],
    ["NUL", encode("v1", "2026-01-01T00:00:00.000000Z\0", createId())],
    ["the cursor of another list", encode("v1", createId())],
  ];
  test.each(cursors)("a cursor with %s is 400", async (_name, cursor) => {
    await createUser();
    expect(await anna.refused("GET", `/conversations?cursor=${cursor}`)).toMatchObject({
      status: 400,
      code: "bad_cursor",
    });
  });

  test.each(["0", "-1", "1.5", "x", ""])("a limit of %p is 422", async (limit) => {
    await createUser();
    expect(await anna.refused("GET", `/conversations?limit=${limit}`)).toMatchObject({
      status: 422,
      errors: [{ pointer: "#/query/limit" }],
    });
  });
});
