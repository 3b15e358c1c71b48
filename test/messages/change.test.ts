import { afterAll, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { COMMENT_CHARS_MAX, type Feedback, type SentMessage } from "../../src/modules/messages/model.ts";
import { CONTENT_CHARS_MAX } from "../../src/protocol/frames.ts";
import type { Message } from "../../src/protocol/message.ts";
import { startApp, type TestApp } from "../support/app.ts";
import { createConversation } from "../support/conversation.ts";
import { createRest, type Rest } from "../support/rest.ts";
import { openSocket, type TestSocket } from "../support/socket.ts";

let parley: TestApp;
let owner: Rest;
let author: Rest;
let other: Rest;
let conversation_id: string;
let path: string;
let message: Message;
let socket: TestSocket;

beforeAll(async () => {
  parley = await startApp();
  const accounts = await Promise.all(["Olga", "Anna", "Ben"].map((name) => parley.register(undefined, name)));
  [owner, author, other] = accounts.map((account) => createRest(parley, account)) as [Rest, Rest, Rest];
});
afterAll(() => parley.stop());

beforeEach(async () => {
  const conversation = await createConversation(parley, owner.account, [author.account, other.account]);
  conversation_id = conversation.id;
  path = `/conversations/${conversation_id}/messages`;
  message = (await author.request<SentMessage>("POST", path, { content: "first", reply: false })).body.message;
  socket = await openSocket(parley.url, { token: other.account.access_token });
  await socket.request({ type: "subscribe", conversation_id });
  return () => socket.close();
});

const at = (one: Message) => `${path}/${one.id}`;
const read = async (one: Message) => (await other.get<Message>(at(one))).body;
const pushed = () => socket.frames.filter(({ seq }) => seq !== undefined);
const settle = () => socket.request({ type: "unsubscribe", conversation_id });
async function ask(): Promise<Message> {
  const { body } = await author.request<SentMessage>("POST", path, { content: "question", reply: true });
  const { data } = await socket.waitFor((frame) => frame.type === "message.completed");
  expect(data?.id).toBe(body.reply?.id as string);
  return data as Message;
}

describe("editing", () => {
  test("changes the text for its author, as an event with a seq", async () => {
    const { status, body } = await author.request<Message>("PATCH", at(message), { content: "FIRST" });
    expect(status).toBe(200);
    expect(body).toEqual({ ...message, content: "FIRST", updated_at: body.updated_at });
    expect(Date.parse(body.updated_at)).toBeGreaterThan(Date.parse(message.updated_at));
    expect(await read(message)).toEqual(body);
    await settle();
    expect(pushed()).toMatchObject([{ type: "message.updated", conversation_id, seq: message.seq + 1, data: body }]);
  });

  test("is for the author alone, not for the owner; answers of models can't be edited", async () => {
    const answer = await ask();
    for (const rest of [owner, other])
      expect(await rest.refused("PATCH", at(message), { content: "x" })).toMatchObject({ status: 403 });
    for (const rest of [owner, author])
      expect(await rest.refused("PATCH", at(answer), { content: "x" })).toMatchObject({ status: 403 });
    expect([await read(message), await read(answer)]).toEqual([message, answer]);
  });

  const invalid: [string, unknown][] = [
    ["nothing", {}],
    ["an empty text", { content: "" }],
    ["an oversized text", { content: "x".repeat(CONTENT_CHARS_MAX + 1) }],
    ["a NUL", { content: "\0" }],
    ["an unknown field", { content: "x", role: "system" }],
  ];
  test.each(invalid)("%s returns 422", async (_name, input) => {
    expect(await author.refused("PATCH", at(message), input)).toMatchObject({ status: 422, code: "invalid" });
    expect(await read(message)).toEqual(message);
  });
});

describe("deleting", () => {
  test.each(["author", "owner"])("leaves a tombstone, for the %s", async (who) => {
    const rest = who === "owner" ? owner : author;
    expect(await rest.request("DELETE", at(message))).toMatchObject({ status: 204, body: null });
    const tombstone = await read(message);
    expect(tombstone).toMatchObject({
      ...message,
      content: "",
      updated_at: tombstone.updated_at,
      deleted_at: expect.any(String),
    });
    await settle();
    expect(pushed()).toMatchObject([{ type: "message.deleted", seq: message.seq + 1, data: tombstone }]);
    const rows = await parley.database`select 1 from messages where id = ${message.id} and content <> ''`;
    expect(rows).toHaveLength(0);
  });

  test("of an answer also removes its reasoning and its output", async () => {
    const answer = await ask();
    await parley.database`
      update messages set reasoning = 'I thought of it.', output = '{"b": 1, "a": null}' where id = ${answer.id}`;
    const shown = await read(answer);
    expect(shown).toMatchObject({ reasoning: "I thought of it.", output: { a: null, b: 1 } });
    expect(JSON.stringify(shown.output)).toBe('{"b":1,"a":null}');
    expect((await owner.request("DELETE", at(answer))).status).toBe(204);
    expect(await read(answer)).toMatchObject({ content: "", reasoning: null, output: null });
    const { data } = await socket.waitFor((frame) => frame.type === "message.deleted");
    expect(data).toMatchObject({ content: "", reasoning: null, output: null });
    const rows = await parley.database`
      select 1 from messages where id = ${answer.id} and (reasoning is not null or output is not null)`;
    expect(rows).toHaveLength(0);
  });

  test("of other users' messages is refused", async () => {
    expect(await other.refused("DELETE", at(message))).toMatchObject({ status: 403, code: "forbidden" });
    expect(await read(message)).toEqual(message);
  });

  test("is idempotent, also concurrently: one event", async () => {
    const answers = await Promise.all(
      [owner, author, owner, author].map((rest) => rest.request("DELETE", at(message))),
    );
    expect(answers.map(({ status }) => status)).toEqual([204, 204, 204, 204]);
    expect((await author.request("DELETE", at(message))).status).toBe(204);
    await settle();
    expect(pushed().map(({ type }) => type)).toEqual(["message.deleted"]);
  });

  test("is final: a tombstone can't be edited, regenerated or rated", async () => {
    const answer = await ask();
    for (const one of [message, answer]) await owner.request("DELETE", at(one));
    const conflict = { status: 409, code: "conflict" };
    expect(await author.refused("PATCH", at(message), { content: "x" })).toMatchObject(conflict);
    expect(await author.refused("POST", `${at(message)}/regenerate`)).toMatchObject(conflict);
    expect(await author.refused("PUT", `${at(answer)}/feedback`, { rating: 1 })).toMatchObject(conflict);
    expect((await read(message)).content).toBe("");
  });
});

describe("feedback", () => {
  test("is one rating per member, which may be changed", async () => {
    const answer = await ask();
    const rate = (rest: Rest, input: object) => rest.request<Feedback>("PUT", `${at(answer)}/feedback`, input);
    const first = await rate(author, { rating: -1, comment: "wrong ☔" });
    expect(first).toMatchObject({ status: 200, body: { message_id: answer.id, rating: -1, comment: "wrong ☔" } });
    expect((await rate(other, { rating: 1 })).body).toMatchObject({ rating: 1, comment: null });
    const second = await rate(author, { rating: 1 });
    expect(second.body).toMatchObject({ rating: 1, comment: null });
    expect(Date.parse(second.body.updated_at)).toBeGreaterThanOrEqual(Date.parse(first.body.updated_at));
    const stored = await parley.database`
      select user_id, rating, comment from feedback where message_id = ${answer.id} order by user_id`;
    const expected = [author.id, other.id].sort().map((user_id) => ({ user_id, rating: 1, comment: null }));
    expect([...stored]).toEqual(expected);
  });

  test("is only for answers of a model", async () => {
    expect(await owner.refused("PUT", `${at(message)}/feedback`, { rating: 1 })).toMatchObject({ status: 409 });
  });

  const invalid: [string, unknown][] = [
    ["nothing", {}],
    ["0", { rating: 0 }],
    ["5 stars", { rating: 5 }],
    ["a string as rating", { rating: "1" }],
    ["an oversized comment", { rating: 1, comment: "x".repeat(COMMENT_CHARS_MAX + 1) }],
    ["an unknown field", { rating: 1, user_id: "x" }],
  ];
  test.each(invalid)("of %s returns 422", async (_name, input) => {
    expect(await owner.refused("PUT", `${at(message)}/feedback`, input)).toMatchObject({ status: 422 });
  });
});
