import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import type { SentMessage } from "../../src/modules/messages/model.ts";
import { mergeEvents } from "../../src/modules/messages/service.ts";
import type { DurableEvent, DurableEventType } from "../../src/protocol/events.ts";
import type { Message } from "../../src/protocol/message.ts";
import { startApp, type TestApp } from "../support/app.ts";
import { createConversation } from "../support/conversation.ts";
import { createRestClient, type RestClient } from "../support/rest.ts";
import { createTestEvent } from "../support/test-events.ts";

let parley: TestApp;
let anna: RestClient;
let ben: RestClient;
let path: string;
let editedMessage: Message;

type Page = { data: DurableEvent[]; next_cursor: string | null; last_seq: number };

beforeAll(async () => {
  parley = await startApp();
  const accounts = await Promise.all(["Anna", "Ben"].map((name) => parley.register(undefined, name)));
  [anna, ben] = accounts.map((account) => createRestClient(parley, account)) as [RestClient, RestClient];
  path = `/conversations/${(await createConversation(parley, anna.account)).id}`;
  const firstSend = await anna.request<SentMessage>("POST", `${path}/messages`, { content: "first", reply: false });
  await anna.request("POST", `${path}/members`, { user_id: ben.id });
  await anna.request("PATCH", path, { title: "one" });
  await anna.request("PATCH", `${path}/messages/${firstSend.body.message.id}`, { content: "second" });
  editedMessage = (
    await anna.request<Message>("PATCH", `${path}/messages/${firstSend.body.message.id}`, { content: "third" })
  ).body;
  await anna.request("PATCH", path, { title: "two" });
  const question = await ben.request<SentMessage>("POST", `${path}/messages`, { content: "question", reply: true });
  const isDone = async () =>
    (await ben.get<Message>(`${path}/messages/${question.body.reply?.id}`)).body.status === "complete";
  while (!(await isDone())) await Bun.sleep(10);
});
afterAll(() => parley.stop());

const fetchPage = async (query: string) => (await ben.get<Page>(`${path}/events${query}`)).body;

describe("a conversation's events as JSON", () => {
  test("have gapless seqs, and contain the current state", async () => {
    const { data, next_cursor, last_seq } = await fetchPage("");
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
    for (const index of [0, 3, 4]) expect(data[index]?.data).toEqual(editedMessage as never);
    for (const index of [2, 5]) expect(data[index]?.data).toMatchObject({ title: "two", last_seq: 9 });
    expect(data[7]?.data).toEqual(data[8]?.data as never);
    expect(data[8]?.data).toMatchObject({ status: "complete" });
  });

  test("can be listed after a seq", async () => {
    expect((await fetchPage("?after_seq=6")).data.map(({ seq }) => seq)).toEqual([7, 8, 9]);
    expect(await fetchPage("?after_seq=9")).toEqual({ data: [], next_cursor: null, last_seq: 9 });
    expect(await fetchPage("?after_seq=1000")).toEqual({ data: [], next_cursor: null, last_seq: 9 });
  });

  test("are each listed once with any page size", async () => {
    const { data } = await fetchPage("");
    for (const limit of [1, 2, 4, 8, 9, 10]) {
      const { rows, pages } = await ben.listAll<DurableEvent>(`${path}/events`, limit);
      expect(rows).toEqual(data);
      expect(pages).toHaveLength(Math.ceil(9 / limit));
      expect((await ben.listAll<DurableEvent>(`${path}/events?after_seq=5`, limit)).rows).toEqual(data.slice(5));
    }
  });

  test("can't be listed from an invalid position", async () => {
    expect(await ben.requestProblem("GET", `${path}/events?after_seq=x`)).toMatchObject({
      status: 422,
      errors: [{ pointer: "#/query/after_seq" }],
    });
    for (const key of ["x", "-1", "1.5", ""]) {
      const cursor = Buffer.from(JSON.stringify(["v1", key])).toString("base64url");
      expect(await ben.requestProblem("GET", `${path}/events?cursor=${cursor}`)).toMatchObject({
        status: 400,
        code: "bad_cursor",
      });
    }
  });
});

describe("recovery", () => {
  const createEvent = (seq: number, type: DurableEventType, data: Record<string, unknown>) =>
    createTestEvent("c", seq, type, data);

  /** Regression: if an answer ended during recovery, its start and end were replayed, but neither event had the answer's text. */
  test("returns a message's current state, even if it changed after the events were read", () => {
    const [startedAnswer, completedAnswer] = [
      { id: "answer", seq: 2, content: "", status: "streaming" },
      { id: "answer", seq: 2, content: "All of it.", status: "complete" },
    ];
    const otherMessage = { id: "other", content: "x" };
    const events = [1, 2, 3].map((seq) =>
      createEvent(seq, "message.created", seq === 2 ? startedAnswer : { ...otherMessage, seq }),
    );
    const position = { role: "member", lastSeq: 3, recovered: true, events } as const;
    const laterEvents = [
      createEvent(4, "member.added", { user_id: "u" }),
      createEvent(5, "message.completed", completedAnswer),
    ];
    expect(mergeEvents({ ...position, events: [...events] }, 5, laterEvents)).toEqual([
      createEvent(1, "message.created", { ...otherMessage, seq: 1 }),
      createEvent(2, "message.created", completedAnswer),
      createEvent(3, "message.created", { ...otherMessage, seq: 3 }),
      ...laterEvents,
    ]);
    expect(mergeEvents({ ...position, events: [...events] }, 2, [])).toEqual(events.slice(0, 2));
  });
});
