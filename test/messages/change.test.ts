import { afterAll, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { COMMENT_CHARS_MAX, type Feedback, type SentMessage } from "../../src/modules/messages/model.ts";
import { CONTENT_CHARS_MAX } from "../../src/protocol/frames.ts";
import type { Message } from "../../src/protocol/message.ts";
import { startApp, type TestApp } from "../support/app.ts";
import { createConversation } from "../support/conversation.ts";
import { createRestClient, type RestClient } from "../support/rest.ts";
import { openSocket, type TestSocket } from "../support/socket.ts";

let parley: TestApp;
let owner: RestClient;
let author: RestClient;
let otherMember: RestClient;
let conversation_id: string;
let path: string;
let message: Message;
let socket: TestSocket;

beforeAll(async () => {
  parley = await startApp();
  const accounts = await Promise.all(["Olga", "Anna", "Ben"].map((name) => parley.register(undefined, name)));
  [owner, author, otherMember] = accounts.map((account) => createRestClient(parley, account)) as [
    RestClient,
    RestClient,
    RestClient,
  ];
});
afterAll(() => parley.stop());

beforeEach(async () => {
  const conversation = await createConversation(parley, owner.account, [author.account, otherMember.account]);
  conversation_id = conversation.id;
  path = `/conversations/${conversation_id}/messages`;
  message = (await author.request<SentMessage>("POST", path, { content: "first", reply: false })).body.message;
  socket = await openSocket(parley.url, { token: otherMember.account.access_token });
  await socket.request({ type: "subscribe", conversation_id });
  return () => socket.close();
});

const getMessagePath = ({ id }: Message) => `${path}/${id}`;
const getMessage = async (message: Message) => (await otherMember.get<Message>(getMessagePath(message))).body;
const listPushes = () => socket.frames.filter(({ seq }) => seq !== undefined);
/** Waits for all earlier pushes, which arrive before this request's response. */
const waitForPushes = () => socket.request({ type: "unsubscribe", conversation_id });
async function createAnswer(): Promise<Message> {
  const { body } = await author.request<SentMessage>("POST", path, { content: "question", reply: true });
  const { data } = await socket.waitFor((frame) => frame.type === "message.completed");
  expect(data?.id).toBe(body.reply?.id as string);
  return data as Message;
}

describe("editing", () => {
  test("by the author changes the text, and publishes an event with a seq", async () => {
    const { status, body } = await author.request<Message>("PATCH", getMessagePath(message), { content: "FIRST" });
    expect(status).toBe(200);
    expect(body).toEqual({ ...message, content: "FIRST", updated_at: body.updated_at });
    expect(Date.parse(body.updated_at)).toBeGreaterThan(Date.parse(message.updated_at));
    expect(await getMessage(message)).toEqual(body);
    await waitForPushes();
    expect(listPushes()).toMatchObject([
      { type: "message.updated", conversation_id, seq: message.seq + 1, data: body },
    ]);
  });

  test("is allowed only for the message's author, and never for answers", async () => {
    const answer = await createAnswer();
    for (const rest of [owner, otherMember])
      expect(await rest.requestProblem("PATCH", getMessagePath(message), { content: "x" })).toMatchObject({
        status: 403,
      });
    for (const rest of [owner, author])
      expect(await rest.requestProblem("PATCH", getMessagePath(answer), { content: "x" })).toMatchObject({
        status: 403,
      });
    expect([await getMessage(message), await getMessage(answer)]).toEqual([message, answer]);
  });

  const invalidEdits: [string, unknown][] = [
    ["no fields", {}],
    ["empty content", { content: "" }],
    ["oversized content", { content: "x".repeat(CONTENT_CHARS_MAX + 1) }],
    ["a NUL character", { content: "\0" }],
    ["an unknown field", { content: "x", role: "system" }],
  ];
  test.each(invalidEdits)("with %s returns 422", async (_name, input) => {
    expect(await author.requestProblem("PATCH", getMessagePath(message), input)).toMatchObject({
      status: 422,
      code: "invalid",
    });
    expect(await getMessage(message)).toEqual(message);
  });
});

describe("deleting", () => {
  test.each(["author", "owner"])("by the %s leaves a tombstone", async (role) => {
    const rest = role === "owner" ? owner : author;
    expect(await rest.request("DELETE", getMessagePath(message))).toMatchObject({ status: 204, body: null });
    const tombstone = await getMessage(message);
    expect(tombstone).toMatchObject({
      ...message,
      content: "",
      updated_at: tombstone.updated_at,
      deleted_at: expect.any(String),
    });
    await waitForPushes();
    expect(listPushes()).toMatchObject([{ type: "message.deleted", seq: message.seq + 1, data: tombstone }]);
    const rows = await parley.database`select 1 from messages where id = ${message.id} and content <> ''`;
    expect(rows).toHaveLength(0);
  });

  test("an answer also deletes its reasoning and output", async () => {
    const answer = await createAnswer();
    await parley.database`
      update messages set reasoning = 'I thought of it.', output = '{"b": 1, "a": null}' where id = ${answer.id}`;
    const stored = await getMessage(answer);
    expect(stored).toMatchObject({ reasoning: "I thought of it.", output: { a: null, b: 1 } });
    expect(JSON.stringify(stored.output)).toBe('{"b":1,"a":null}');
    expect((await owner.request("DELETE", getMessagePath(answer))).status).toBe(204);
    expect(await getMessage(answer)).toMatchObject({ content: "", reasoning: null, output: null });
    const { data } = await socket.waitFor((frame) => frame.type === "message.deleted");
    expect(data).toMatchObject({ content: "", reasoning: null, output: null });
    const rows = await parley.database`
      select 1 from messages where id = ${answer.id} and (reasoning is not null or output is not null)`;
    expect(rows).toHaveLength(0);
  });

  test("other users' messages is forbidden", async () => {
    expect(await otherMember.requestProblem("DELETE", getMessagePath(message))).toMatchObject({
      status: 403,
      code: "forbidden",
    });
    expect(await getMessage(message)).toEqual(message);
  });

  test("is idempotent, even concurrently, and publishes one event", async () => {
    const responses = await Promise.all(
      [owner, author, owner, author].map((rest) => rest.request("DELETE", getMessagePath(message))),
    );
    expect(responses.map(({ status }) => status)).toEqual([204, 204, 204, 204]);
    expect((await author.request("DELETE", getMessagePath(message))).status).toBe(204);
    await waitForPushes();
    expect(listPushes().map(({ type }) => type)).toEqual(["message.deleted"]);
  });

  test("is final: a tombstone can't be edited, regenerated or rated", async () => {
    const answer = await createAnswer();
    for (const deletedMessage of [message, answer]) await owner.request("DELETE", getMessagePath(deletedMessage));
    const conflict = { status: 409, code: "conflict" };
    expect(await author.requestProblem("PATCH", getMessagePath(message), { content: "x" })).toMatchObject(conflict);
    expect(await author.requestProblem("POST", `${getMessagePath(message)}/regenerate`)).toMatchObject(conflict);
    expect(await author.requestProblem("PUT", `${getMessagePath(answer)}/feedback`, { rating: 1 })).toMatchObject(
      conflict,
    );
    expect((await getMessage(message)).content).toBe("");
  });
});

describe("feedback", () => {
  test("is one rating per member, which can be changed", async () => {
    const answer = await createAnswer();
    const rate = (rest: RestClient, input: object) =>
      rest.request<Feedback>("PUT", `${getMessagePath(answer)}/feedback`, input);
    const firstRating = await rate(author, { rating: -1, comment: "wrong ☔" });
    expect(firstRating).toMatchObject({
      status: 200,
      body: { message_id: answer.id, rating: -1, comment: "wrong ☔" },
    });
    expect((await rate(otherMember, { rating: 1 })).body).toMatchObject({ rating: 1, comment: null });
    const secondRating = await rate(author, { rating: 1 });
    expect(secondRating.body).toMatchObject({ rating: 1, comment: null });
    expect(Date.parse(secondRating.body.updated_at)).toBeGreaterThanOrEqual(Date.parse(firstRating.body.updated_at));
    const storedFeedback = await parley.database`
      select user_id, rating, comment from feedback where message_id = ${answer.id} order by user_id`;
    const expected = [author.id, otherMember.id].sort().map((user_id) => ({ user_id, rating: 1, comment: null }));
    expect([...storedFeedback]).toEqual(expected);
  });

  test("is accepted only for a model's answer", async () => {
    expect(await owner.requestProblem("PUT", `${getMessagePath(message)}/feedback`, { rating: 1 })).toMatchObject({
      status: 409,
    });
  });

  const invalidFeedback: [string, unknown][] = [
    ["no fields", {}],
    ["a rating of 0", { rating: 0 }],
    ["a rating of 5", { rating: 5 }],
    ["a string as the rating", { rating: "1" }],
    ["an oversized comment", { rating: 1, comment: "x".repeat(COMMENT_CHARS_MAX + 1) }],
    ["an unknown field", { rating: 1, user_id: "x" }],
  ];
  test.each(invalidFeedback)("with %s returns 422", async (_name, input) => {
    expect(await owner.requestProblem("PUT", `${getMessagePath(message)}/feedback`, input)).toMatchObject({
      status: 422,
    });
  });
});
