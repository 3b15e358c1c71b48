import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import type { SentMessage } from "../../src/modules/messages/model.ts";
import { collectEvents } from "../../src/modules/messages/service.ts";
import type { DurableEvent, DurableEventType } from "../../src/protocol/events.ts";
import type { Message } from "../../src/protocol/message.ts";
import { startApp, type TestApp } from "../support/app.ts";
import { createConversation } from "../support/conversation.ts";
import { createTestEvent } from "../support/events.ts";
import { createRest, type Rest } from "../support/rest.ts";

let parley: TestApp;
let anna: Rest;
let ben: Rest;
let path: string;
let edited: Message;

type Page = { data: DurableEvent[]; next_cursor: string | null; last_seq: number };

beforeAll(async () => {
  parley = await startApp();
  const accounts = await Promise.all(["Anna", "Ben"].map((name) => parley.register(undefined, name)));
  [anna, ben] = accounts.map((account) => createRest(parley, account)) as [Rest, Rest];
  path = `/conversations/${(await createConversation(parley, anna.account)).id}`;
  const first = await anna.request<SentMessage>("POST", `${path}/messages`, { content: "first", reply: false });
  await anna.request("POST", `${path}/members`, { user_id: ben.id });
  await anna.request("PATCH", path, { title: "one" });
  await anna.request("PATCH", `${path}/messages/${first.body.message.id}`, { content: "second" });
  edited = (await anna.request<Message>("PATCH", `${path}/messages/${first.body.message.id}`, { content: "third" }))
    .body;
  await anna.request("PATCH", path, { title: "two" });
  const question = await ben.request<SentMessage>("POST", `${path}/messages`, { content: "question", reply: true });
  const isDone = async () =>
    (await ben.get<Message>(`${path}/messages/${question.body.reply?.id}`)).body.status === "complete";
  while (!(await isDone())) await Bun.sleep(10);
});
afterAll(() => parley.stop());

const page = async (query: string) => (await ben.get<Page>(`${path}/events${query}`)).body;

describe("the events of a conversation as JSON", () => {
  test("have gapless seqs, and contain the current state", async () => {
    const { data, next_cursor, last_seq } = await page("");
    expect(data.map(({ seq, type }) => [seq, type])).toEqual([
      [1, "message.created"],
      [2, "member.added"],
      [3, "conversation.updated"],
      [4, "message.updated"],
      [5, "message.updated"],
      [6, "conversation.updated"],
      [7, "message.created"],
      [8, "message.created"],
      [9, "message.completed"],
    ]);
    expect({ next_cursor, last_seq }).toEqual({ next_cursor: null, last_seq: 9 });
    for (const index of [0, 3, 4]) expect(data[index]?.data).toEqual(edited as never);
    for (const index of [2, 5]) expect(data[index]?.data).toMatchObject({ title: "two", last_seq: 9 });
    expect(data[7]?.data).toEqual(data[8]?.data as never);
    expect(data[8]?.data).toMatchObject({ status: "complete" });
  });

  test("can be listed after a seq", async () => {
    expect((await page("?after_seq=6")).data.map(({ seq }) => seq)).toEqual([7, 8, 9]);
    expect(await page("?after_seq=9")).toEqual({ data: [], next_cursor: null, last_seq: 9 });
    expect(await page("?after_seq=1000")).toEqual({ data: [], next_cursor: null, last_seq: 9 });
  });

  test("come in pages of any size, each event once", async () => {
    const { data } = await page("");
    for (const limit of [1, 2, 4, 8, 9, 10]) {
      const { rows, pages } = await ben.all<DurableEvent>(`${path}/events`, limit);
      expect(rows).toEqual(data);
      expect(pages).toHaveLength(Math.ceil(9 / limit));
      expect((await ben.all<DurableEvent>(`${path}/events?after_seq=5`, limit)).rows).toEqual(data.slice(5));
    }
  });

  test("refuse an invalid position", async () => {
    expect(await ben.refused("GET", `${path}/events?after_seq=x`)).toMatchObject({
      status: 422,
      errors: [{ pointer: "#/query/after_seq" }],
    });
    for (const key of ["x", "-1", "1.5", ""]) {
      const cursor = Buffer.from(JSON.stringify(["v1", key])).toString("base64url");
      expect(await ben.refused("GET", `${path}/events?cursor=${cursor}`)).toMatchObject({
        status: 400,
        code: "bad_cursor",
      });
    }
  });
});

describe("a recovery", () => {
  const eventOf = (seq: number, type: DurableEventType, data: Record<string, unknown>) =>
    createTestEvent("c", seq, type, data);

  /** Regression: an answer that ended in between was replayed as started and ended, but its text was in neither event. */
  test("contains the current state of a message, even if it changed after the events were read", () => {
    const [begun, ended] = [
      { id: "answer", seq: 2, content: "", status: "streaming" },
      { id: "answer", seq: 2, content: "All of it.", status: "complete" },
    ];
    const other = { id: "other", content: "x" };
    const read = [1, 2, 3].map((seq) => eventOf(seq, "message.created", seq === 2 ? begun : { ...other, seq }));
    const position = { role: "member", lastSeq: 3, recovered: true, events: read } as const;
    const missed = [eventOf(4, "member.added", { user_id: "u" }), eventOf(5, "message.completed", ended)];
    expect(collectEvents({ ...position, events: [...read] }, 5, missed)).toEqual([
      eventOf(1, "message.created", { ...other, seq: 1 }),
      eventOf(2, "message.created", ended),
      eventOf(3, "message.created", { ...other, seq: 3 }),
      ...missed,
    ]);
    expect(collectEvents({ ...position, events: [...read] }, 2, [])).toEqual(read.slice(0, 2));
  });
});
