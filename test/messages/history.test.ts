import { afterAll, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { READ_BYTES_MAX } from "../../src/events/slice.ts";
import { createId } from "../../src/lib/id.ts";
import type { Message } from "../../src/protocol/message.ts";
import { startApp, type TestApp } from "../support/app.ts";
import { createConversation } from "../support/conversation.ts";
import { createRestClient, type RestClient } from "../support/rest.ts";

let parley: TestApp;
let anna: RestClient;
let id: string;
let path: string;

beforeAll(async () => {
  parley = await startApp();
  anna = createRestClient(parley, await parley.register(undefined, "Anna"));
});
afterAll(() => parley.stop());

beforeEach(async () => {
  id = (await createConversation(parley, anna.account)).id;
  path = `/conversations/${id}/messages`;
});

const sendMessage = (content: string) => anna.request<{ message: Message }>("POST", path, { content, reply: false });
/** Adds events up to seq 20, of which every third is an edit of the first message, and returns the seqs of the messages. */
async function sendMessagesAndEdits(): Promise<number[]> {
  const firstMessage = (await sendMessage("1")).body.message;
  for (let seq = 2; seq <= 20; seq += 1)
    if (seq % 3 === 0) await anna.request("PATCH", `${path}/${firstMessage.id}`, { content: `edited ${seq}` });
    else await sendMessage(`${seq}`);
  return Array.from({ length: 20 }, (_, index) => index + 1).filter((seq) => seq % 3 !== 0);
}
const listSeqs = async (query: string) =>
  (await anna.get<{ data: Message[] }>(`${path}${query}`)).body.data.map(({ seq }) => seq);
/** The largest seq that a query accepts. */
const SEQ_MAX = 999_999_999_999_999;
const encodeCursor = (...parts: unknown[]) => Buffer.from(JSON.stringify(parts)).toString("base64url");

describe("the history", () => {
  test("is empty without messages", async () => {
    expect((await anna.get(path)).body).toEqual({ data: [], next_cursor: null });
  });

  test("is listed oldest first, either as the newest page or as the messages before, after or between given seqs", async () => {
    const messageSeqs = await sendMessagesAndEdits();
    expect(await listSeqs("")).toEqual(messageSeqs);
    expect(await listSeqs("?limit=3")).toEqual([17, 19, 20]);
    expect(await listSeqs("?before_seq=17&limit=3")).toEqual([13, 14, 16]);
    expect(await listSeqs("?before_seq=18&limit=2")).toEqual([16, 17]);
    expect(await listSeqs("?after_seq=4&limit=3")).toEqual([5, 7, 8]);
    expect(await listSeqs("?after_seq=0&limit=2")).toEqual([1, 2]);
    expect(await listSeqs("?after_seq=4&before_seq=9")).toEqual([5, 7, 8]);
    expect(await listSeqs("?after_seq=4&before_seq=9&limit=2")).toEqual([7, 8]);
    expect(await listSeqs("?before_seq=1")).toEqual([]);
    expect(await listSeqs("?before_seq=0")).toEqual([]);
    expect(await listSeqs("?after_seq=20")).toEqual([]);
    expect(await listSeqs(`?after_seq=${SEQ_MAX}`)).toEqual([]);
    expect(await listSeqs(`?before_seq=${SEQ_MAX}`)).toEqual(messageSeqs);
  });

  test("lists each message once with any page size in both directions", async () => {
    const messageSeqs = await sendMessagesAndEdits();
    for (const limit of [1, 2, 3, 7, 13, 14, 200]) {
      const forward = await anna.listAll<Message>(`${path}?after_seq=0`, limit);
      expect(forward.rows.map(({ seq }) => seq)).toEqual(messageSeqs);
      expect(forward.pages).toHaveLength(Math.ceil(messageSeqs.length / limit));
      const backward = await anna.listAll<Message>(path, limit);
      expect(backward.rows.map(({ seq }) => seq).sort((a, b) => a - b)).toEqual(messageSeqs);
      expect(backward.pages).toEqual(forward.pages);
    }
    const boundedList = await anna.listAll<Message>(`${path}?after_seq=4&before_seq=15`, 2);
    expect(boundedList.rows.map(({ seq }) => seq)).toEqual([13, 14, 10, 11, 7, 8, 5]);
  });

  test("continues from the cursor while messages are sent", async () => {
    const messageSeqs = await sendMessagesAndEdits();
    const listedSeqs: number[] = [];
    let cursor = "";
    for (let page = 0; page < 5; page += 1) {
      const { body } = await anna.get<{ data: Message[]; next_cursor: string | null }>(`${path}?limit=3${cursor}`);
      listedSeqs.unshift(...body.data.map(({ seq }) => seq));
      await sendMessage("new message");
      if (body.next_cursor === null) break;
      cursor = `&cursor=${body.next_cursor}`;
    }
    expect(listedSeqs).toEqual(messageSeqs);
  });

  test("shows messages in their current state, and deleted ones as tombstones", async () => {
    const { message } = (await sendMessage("first")).body;
    const { message: second } = (await sendMessage("second")).body;
    await anna.request("PATCH", `${path}/${message.id}`, { content: "FIRST" });
    await anna.request("DELETE", `${path}/${second.id}`);
    const { data } = (await anna.get<{ data: Message[] }>(path)).body;
    expect(data).toMatchObject([
      { id: message.id, seq: 1, content: "FIRST", deleted_at: null },
      { id: second.id, seq: 2, content: "", deleted_at: expect.any(String), author: { id: anna.id } },
    ]);
    for (const listed of data) expect((await anna.get<Message>(`${path}/${listed.id}`)).body).toEqual(listed);
  });

  test.each([
    ["content", (text: string) => [text, null, null]],
    ["reasoning", (text: string) => ["", text, null]],
    ["outputs", (text: string) => ["", null, JSON.stringify(text)]],
  ])("ends a page early if it contains large %s, and continues on the next page", async (_name, createColumns) => {
    const bytes = 3 * 150_000;
    const rows = 12;
    const [content = "", reasoning = null, output = null] = createColumns("€".repeat(bytes / 3));
    await parley.database`
      insert into messages (id, conversation_id, seq, role, content, reasoning, output)
      select gen_random_uuid(), ${id}, n, 'assistant', ${content}, ${reasoning}, ${output}::text::json
      from generate_series(1, ${rows}) n`;
    const rowsPerPage = Math.floor(READ_BYTES_MAX / bytes) + 1;
    for (const query of ["?after_seq=0", ""]) {
      const { rows: found, pages } = await anna.listAll<Message>(`${path}${query}`, 200);
      expect(new Set(found.map(({ seq }) => seq)).size).toBe(rows);
      expect(pages).toEqual([rowsPerPage, rowsPerPage, 2]);
    }
    expect((await anna.listAll<Message>(path, 2)).pages).toEqual(Array.from({ length: 6 }, () => 2));
  });

  const invalidQueries: [string, string][] = [
    ["before_seq=x", "#/query/before_seq"],
    ["before_seq=-1", "#/query/before_seq"],
    ["after_seq=1.5", "#/query/after_seq"],
    ["after_seq=1e3", "#/query/after_seq"],
    [`after_seq=${2 ** 60}`, "#/query/after_seq"],
    ["limit=0", "#/query/limit"],
  ];
  test.each(invalidQueries)("returns 422 for ?%s", async (query, pointer) => {
    expect(await anna.requestProblem("GET", `${path}?${query}`)).toMatchObject({
      status: 422,
      code: "invalid",
      errors: [{ pointer }],
    });
  });

  const invalidCursors: [string, string][] = [
    ["nonsense", "%00"],
    ["an unknown direction", encodeCursor("v1", "sideways", "1")],
    ["an invalid number", encodeCursor("v1", "before", "x")],
    ["an empty number", encodeCursor("v1", "before", "")],
    ["a negative number", encodeCursor("v1", "after", "-1")],
    ["a number above the maximum", encodeCursor("v1", "after", "9".repeat(16))],
    ["a position in another list", encodeCursor("v1", createId())],
  ];
  test.each(invalidCursors)("returns 400 for a cursor with %s", async (_name, cursor) => {
    expect(await anna.requestProblem("GET", `${path}?cursor=${cursor}`)).toMatchObject({
      status: 400,
      code: "bad_cursor",
    });
  });
});

describe("a message", () => {
  test("is found only in its own conversation", async () => {
    const { message } = (await sendMessage("here")).body;
    const otherConversation = await createConversation(parley, anna.account);
    const pathElsewhere = `/conversations/${otherConversation.id}/messages/${message.id}`;
    expect((await anna.get<Message>(`${path}/${message.id}`)).body).toEqual(message);
    expect((await anna.get<Message>(`${path}/${message.id.toUpperCase()}`)).body).toEqual(message);
    for (const [method, requestPath, input] of [
      ["GET", pathElsewhere],
      ["PATCH", pathElsewhere, { content: "x" }],
      ["DELETE", pathElsewhere],
      ["PUT", `${pathElsewhere}/feedback`, { rating: 1 }],
      ["POST", `${pathElsewhere}/cancel`],
      ["POST", `${pathElsewhere}/regenerate`],
      ["GET", `${path}/${createId()}`],
    ] as const)
      expect(await anna.requestProblem(method, requestPath, input)).toMatchObject({ status: 404, code: "not_found" });
    expect((await anna.get<Message>(`${path}/${message.id}`)).body).toEqual(message);
  });

  test("with an id that is not a UUID returns 422", async () => {
    for (const [method, requestPath, input] of [
      ["GET", `${path}/1`],
      ["PATCH", `${path}/1`, { content: "x" }],
      ["DELETE", `${path}/1`],
      ["PUT", `${path}/1/feedback`, { rating: 1 }],
    ] as const)
      expect(await anna.requestProblem(method, requestPath, input)).toMatchObject({
        status: 422,
        errors: [{ pointer: "#/params/message_id" }],
      });
  });
});
