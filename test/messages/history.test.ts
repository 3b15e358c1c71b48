import { afterAll, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { READ_BYTES_MAX } from "../../src/events/slice.ts";
import { createId } from "../../src/lib/id.ts";
import type { Message } from "../../src/protocol/message.ts";
import { startApp, type TestApp } from "../support/app.ts";
import { createConversation } from "../support/conversation.ts";
import { createRest, type Rest } from "../support/rest.ts";

let parley: TestApp;
let anna: Rest;
let id: string;
let path: string;

beforeAll(async () => {
  parley = await startApp();
  anna = createRest(parley, await parley.register(undefined, "Anna"));
});
afterAll(() => parley.stop());

beforeEach(async () => {
  id = (await createConversation(parley, anna.account)).id;
  path = `/conversations/${id}/messages`;
});

const send = (content: string) => anna.request<{ message: Message }>("POST", path, { content, reply: false });
/** Every third seq is an edit of the first message, as in a real conversation. */
async function fill(): Promise<{ messages: number[]; last: number }> {
  const first = (await send("1")).body.message;
  for (let seq = 2; seq <= 20; seq += 1)
    if (seq % 3 === 0) await anna.request("PATCH", `${path}/${first.id}`, { content: `edited ${seq}` });
    else await send(`${seq}`);
  const messages = Array.from({ length: 20 }, (_, index) => index + 1).filter((seq) => seq % 3 !== 0);
  return { messages, last: 20 };
}
const seqs = async (query: string) =>
  (await anna.get<{ data: Message[] }>(`${path}${query}`)).body.data.map(({ seq }) => seq);
/** The largest seq that a query accepts. */
const SEQ_MAX = 999_999_999_999_999;
const encode = (...parts: unknown[]) => Buffer.from(JSON.stringify(parts)).toString("base64url");

describe("the history", () => {
  test("is empty without messages", async () => {
    expect((await anna.get(path)).body).toEqual({ data: [], next_cursor: null });
  });

  test("is listed oldest first: the newest page, before a seq, after one, or between two", async () => {
    const { messages } = await fill();
    expect(await seqs("")).toEqual(messages);
    expect(await seqs("?limit=3")).toEqual([17, 19, 20]);
    expect(await seqs("?before_seq=17&limit=3")).toEqual([13, 14, 16]);
    expect(await seqs("?before_seq=18&limit=2")).toEqual([16, 17]);
    expect(await seqs("?after_seq=4&limit=3")).toEqual([5, 7, 8]);
    expect(await seqs("?after_seq=0&limit=2")).toEqual([1, 2]);
    expect(await seqs("?after_seq=4&before_seq=9")).toEqual([5, 7, 8]);
    expect(await seqs("?after_seq=4&before_seq=9&limit=2")).toEqual([7, 8]);
    expect(await seqs("?before_seq=1")).toEqual([]);
    expect(await seqs("?before_seq=0")).toEqual([]);
    expect(await seqs("?after_seq=20")).toEqual([]);
    expect(await seqs(`?after_seq=${SEQ_MAX}`)).toEqual([]);
    expect(await seqs(`?before_seq=${SEQ_MAX}`)).toEqual(messages);
  });

  test("comes in pages of any size in both directions, each message once", async () => {
    const { messages } = await fill();
    for (const limit of [1, 2, 3, 7, 13, 14, 200]) {
      const forward = await anna.all<Message>(`${path}?after_seq=0`, limit);
      expect(forward.rows.map(({ seq }) => seq)).toEqual(messages);
      expect(forward.pages).toHaveLength(Math.ceil(messages.length / limit));
      const backward = await anna.all<Message>(path, limit);
      expect(backward.rows.map(({ seq }) => seq).sort((a, b) => a - b)).toEqual(messages);
      expect(backward.pages).toEqual(forward.pages);
    }
    const between = await anna.all<Message>(`${path}?after_seq=4&before_seq=15`, 2);
    expect(between.rows.map(({ seq }) => seq)).toEqual([13, 14, 10, 11, 7, 8, 5]);
  });

  test("continues from the cursor while others write", async () => {
    const { messages } = await fill();
    const seen: number[] = [];
    let cursor = "";
    for (let page = 0; page < 5; page += 1) {
      const { body } = await anna.get<{ data: Message[]; next_cursor: string | null }>(`${path}?limit=3${cursor}`);
      seen.unshift(...body.data.map(({ seq }) => seq));
      await send("meanwhile");
      if (body.next_cursor === null) break;
      cursor = `&cursor=${body.next_cursor}`;
    }
    expect(seen).toEqual(messages);
  });

  test("shows messages in their current state, and deleted ones as tombstones", async () => {
    const { message } = (await send("first")).body;
    const { message: second } = (await send("second")).body;
    await anna.request("PATCH", `${path}/${message.id}`, { content: "FIRST" });
    await anna.request("DELETE", `${path}/${second.id}`);
    const { data } = (await anna.get<{ data: Message[] }>(path)).body;
    expect(data).toMatchObject([
      { id: message.id, seq: 1, content: "FIRST", deleted_at: null },
      { id: second.id, seq: 2, content: "", deleted_at: expect.any(String), author: { id: anna.id } },
    ]);
    for (const one of data) expect((await anna.get<Message>(`${path}/${one.id}`)).body).toEqual(one);
  });

  test.each([
    ["texts", (text: string) => [text, null, null]],
    ["reasoning of models", (text: string) => ["", text, null]],
    ["outputs", (text: string) => ["", null, JSON.stringify(text)]],
  ])(
    "a page ends early instead of filling the memory with %s, and the rest is on the next page",
    async (_name, columns) => {
      const bytes = 3 * 150_000;
      const rows = 12;
      const [content = "", reasoning = null, output = null] = columns("€".repeat(bytes / 3));
      await parley.database`
      insert into messages (id, conversation_id, seq, role, content, reasoning, output)
      select gen_random_uuid(), ${id}, n, 'assistant', ${content}, ${reasoning}, ${output}::text::json
      from generate_series(1, ${rows}) n`;
      const most = Math.floor(READ_BYTES_MAX / bytes) + 1;
      for (const query of ["?after_seq=0", ""]) {
        const { rows: found, pages } = await anna.all<Message>(`${path}${query}`, 200);
        expect(new Set(found.map(({ seq }) => seq)).size).toBe(rows);
        expect(pages).toEqual([most, most, 2]);
      }
      expect((await anna.all<Message>(path, 2)).pages).toEqual(Array.from({ length: 6 }, () => 2));
    },
  );

  const invalid: [string, string][] = [
    ["before_seq=x", "#/query/before_seq"],
    ["before_seq=-1", "#/query/before_seq"],
    ["after_seq=1.5", "#/query/after_seq"],
    ["after_seq=1e3", "#/query/after_seq"],
    [`after_seq=${2 ** 60}`, "#/query/after_seq"],
    ["limit=0", "#/query/limit"],
  ];
  test.each(invalid)("?%s returns 422", async (query, pointer) => {
    expect(await anna.refused("GET", `${path}?${query}`)).toMatchObject({
      status: 422,
      code: "invalid",
      errors: [{ pointer }],
    });
  });

  const cursors: [string, string][] = [
    ["nonsense", "%00"],
    ["an unknown direction", encode("v1", "sideways", "1")],
    ["an invalid number", encode("v1", "before", "x")],
    ["an empty number", encode("v1", "before", "")],
    ["a negative number", encode("v1", "after", "-1")],
    ["a number above the maximum", encode("v1", "after", "9".repeat(16))],
    ["the cursor of another list", encode("v1", createId())],
  ];
  test.each(cursors)("a cursor with %s returns 400", async (_name, cursor) => {
    expect(await anna.refused("GET", `${path}?cursor=${cursor}`)).toMatchObject({ status: 400, code: "bad_cursor" });
  });
});

describe("one message", () => {
  test("is found in its own conversation only", async () => {
    const { message } = (await send("here")).body;
    const other = await createConversation(parley, anna.account);
    const elsewhere = `/conversations/${other.id}/messages/${message.id}`;
    expect((await anna.get<Message>(`${path}/${message.id}`)).body).toEqual(message);
    expect((await anna.get<Message>(`${path}/${message.id.toUpperCase()}`)).body).toEqual(message);
    for (const [method, at, input] of [
      ["GET", elsewhere],
      ["PATCH", elsewhere, { content: "x" }],
      ["DELETE", elsewhere],
      ["PUT", `${elsewhere}/feedback`, { rating: 1 }],
      ["POST", `${elsewhere}/cancel`],
      ["POST", `${elsewhere}/regenerate`],
      ["GET", `${path}/${createId()}`],
    ] as const)
      expect(await anna.refused(method, at, input)).toMatchObject({ status: 404, code: "not_found" });
    expect((await anna.get<Message>(`${path}/${message.id}`)).body).toEqual(message);
  });

  test("returns 422 for an id that is not a UUID", async () => {
    for (const [method, at, input] of [
      ["GET", `${path}/1`],
      ["PATCH", `${path}/1`, { content: "x" }],
      ["DELETE", `${path}/1`],
      ["PUT", `${path}/1/feedback`, { rating: 1 }],
    ] as const)
      expect(await anna.refused(method, at, input)).toMatchObject({
        status: 422,
        errors: [{ pointer: "#/params/message_id" }],
      });
  });
});
