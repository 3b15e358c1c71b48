import { afterAll, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import type { ProblemBody } from "../../src/http/problem-response.ts";
import { createId } from "../../src/lib/id.ts";
import type { SentMessage } from "../../src/modules/messages/model.ts";
import { CLIENT_MESSAGE_ID_CHARS_MAX, CONTENT_CHARS_MAX } from "../../src/protocol/frames.ts";
import type { Message } from "../../src/protocol/message.ts";
import { startApp, type TestApp } from "../support/app.ts";
import { createConversation } from "../support/conversation.ts";
import { createRestClient, type RestClient } from "../support/rest.ts";
import { openSocket } from "../support/socket.ts";

let parley: TestApp;
let anna: RestClient;
let ben: RestClient;
let id: string;
let path: string;

beforeAll(async () => {
  parley = await startApp();
  const accounts = await Promise.all(["Anna", "Ben"].map((name) => parley.register(undefined, name)));
  [anna, ben] = accounts.map((account) => createRestClient(parley, account)) as [RestClient, RestClient];
});
afterAll(() => parley.stop());

beforeEach(async () => {
  id = (await createConversation(parley, anna.account, [ben.account])).id;
  path = `/conversations/${id}/messages`;
});

const sendMessage = (input: object, sender: RestClient = anna) => sender.request<SentMessage>("POST", path, input);
const listHistory = async () => (await anna.get<{ data: Message[] }>(path)).body.data;
async function waitForEnd(messageId: string): Promise<Message> {
  for (;;) {
    const { body } = await anna.get<Message>(`${path}/${messageId}`);
    if (body.status !== "streaming") return body;
    await Bun.sleep(10);
  }
}

describe("a message sent over REST", () => {
  test("is returned as stored, and pushed", async () => {
    const socket = await openSocket(parley.url, { token: ben.account.access_token });
    await socket.request({ type: "subscribe", conversation_id: id });
    const { status, headers, body } = await sendMessage({ content: "Hello ☔ \t", client_message_id: "c1" });
    expect(status).toBe(201);
    expect(headers.get("location")).toBe(`/api/v1${path}/${body.message.id}`);
    expect(body).toEqual({
      reply: null,
      message: {
        id: expect.stringMatching(/^[0-9a-f]{8}-[0-9a-f]{4}-7/),
        conversation_id: id,
        seq: 2,
        role: "user",
        author: { id: anna.id, display_name: "Anna", kind: "user" },
        supplied: false,
        content: "Hello ☔ \t",
        status: "complete",
        model: null,
        finish_reason: null,
        usage: null,
        parent_id: null,
        client_message_id: "c1",
        error: null,
        reasoning: null,
        output: null,
        metadata: {},
        created_at: expect.any(String),
        updated_at: body.message.created_at,
        deleted_at: null,
      },
    });
    expect((await anna.get<Message>(`${path}/${body.message.id}`)).body).toEqual(body.message);
    expect(await socket.waitFor((frame) => frame.type === "message.created")).toEqual({
      type: "message.created",
      conversation_id: id,
      seq: 2,
      at: body.message.created_at,
      data: body.message as never,
    });
    await socket.close();
  });

  test("reaches the subscribers even if the conversation id in its path is uppercase", async () => {
    const socket = await openSocket(parley.url, { token: ben.account.access_token });
    await socket.request({ type: "subscribe", conversation_id: id.toUpperCase() });
    const { body } = await anna.request<SentMessage>("POST", `/conversations/${id.toUpperCase()}/messages`, {
      content: "loud",
    });
    expect(body.message.conversation_id).toBe(id);
    expect((await socket.waitFor((frame) => frame.type === "message.created")).data).toEqual(body.message as never);
    await socket.close();
  });

  test("is idempotent, with or without an answer", async () => {
    const firstSend = await sendMessage({ content: "once", client_message_id: "c1" });
    const resent = await sendMessage({ content: "twice", client_message_id: "c1", reply: true });
    expect(resent).toMatchObject({ status: 201, body: firstSend.body });

    const question = await sendMessage({ content: "question", client_message_id: "c2", reply: true });
    const { message, reply } = question.body;
    expect(reply).toMatchObject({
      role: "assistant",
      author: null,
      supplied: false,
      status: "streaming",
      content: "",
      parent_id: message.id,
      seq: message.seq + 1,
      model: "offline/documents",
      client_message_id: null,
    });
    const answer = await waitForEnd(reply?.id ?? "");
    expect(answer).toMatchObject({ status: "complete", finish_reason: "stop", error: null });
    expect(answer.content).toContain("offline");
    const resentQuestion = await sendMessage({ content: "question", client_message_id: "c2", reply: true });
    expect(resentQuestion.body).toEqual({ message, reply: answer });
    expect((await listHistory()).map(({ content }) => content)).toEqual(["once", "question", answer.content]);
  });

  test("can be resent concurrently over REST and a socket", async () => {
    const socket = await openSocket(parley.url, { token: anna.account.access_token });
    const messages = await Promise.all(
      Array.from({ length: 20 }, async (_, n) => {
        if (n % 2) return (await sendMessage({ content: `${n}`, client_message_id: "same" })).body.message;
        const ack = await socket.request({
          type: "message.send",
          id: `f${n}`,
          conversation_id: id,
          content: `${n}`,
          client_message_id: "same",
        });
        return ack.message as Message;
      }),
    );
    const [stored] = await listHistory();
    for (const message of messages) expect(message).toEqual(stored as Message);
    expect(await listHistory()).toHaveLength(1);
    await socket.close();
  });

  test("has a client id that is unique per author and conversation", async () => {
    const otherConversation = await createConversation(parley, anna.account);
    const responses = await Promise.all([
      sendMessage({ content: "a", client_message_id: "same" }),
      sendMessage({ content: "b", client_message_id: "same" }, ben),
      anna.request<SentMessage>("POST", `/conversations/${otherConversation.id}/messages`, {
        content: "c",
        client_message_id: "same",
        reply: false,
      }),
    ]);
    expect(responses.map(({ body }) => body.message.content)).toEqual(["a", "b", "c"]);
  });

  test("can only have a parent in the same conversation", async () => {
    const { body } = await sendMessage({ content: "parent" });
    const child = await sendMessage({ content: "child", parent_id: body.message.id.toUpperCase() });
    expect(child.body.message.parent_id).toBe(body.message.id);
    expect((await listHistory()).at(-1)).toEqual(child.body.message);
    const otherConversation = await createConversation(parley, anna.account);
    const messageElsewhere = await anna.request<SentMessage>(
      "POST",
      `/conversations/${otherConversation.id}/messages`,
      {
        content: "elsewhere",
      },
    );
    for (const parent_id of [messageElsewhere.body.message.id, createId()])
      expect(await anna.requestProblem("POST", path, { content: "x", parent_id })).toMatchObject({
        status: 422,
        code: "invalid",
        errors: [{ pointer: "#/parent_id" }],
      });
    expect(await listHistory()).toHaveLength(2);
  });

  test("can have text up to the limit, but not one character more", async () => {
    const content = "ä".repeat(CONTENT_CHARS_MAX);
    const { body } = await sendMessage({ content, client_message_id: "x".repeat(CLIENT_MESSAGE_ID_CHARS_MAX) });
    expect((await anna.get<Message>(`${path}/${body.message.id}`)).body.content).toBe(content);
    expect(await anna.requestProblem("POST", path, { content: `${content}x` })).toMatchObject({
      status: 422,
      errors: [{ pointer: "#/content" }],
    });
  });
});

describe("an invalid message", () => {
  const invalidInputs: [string, unknown, string][] = [
    ["no fields", {}, "#/content"],
    ["empty content", { content: "" }, "#/content"],
    ["a number", { content: 1 }, "#/content"],
    ["a NUL character", { content: "a\0" }, "#/content"],
    ["a lone surrogate", { content: "\udc00" }, "#/content"],
    ["a NUL character in the client id", { content: "a", client_message_id: "\0" }, "#/client_message_id"],
    ["an empty client id", { content: "a", client_message_id: "" }, "#/client_message_id"],
    ["an oversized client id", { content: "a", client_message_id: "x".repeat(129) }, "#/client_message_id"],
    ["an invalid parent id", { content: "a", parent_id: "1" }, "#/parent_id"],
    ["reply as a string", { content: "a", reply: "true" }, "#/reply"],
    ["an unknown field", { content: "a", role: "system" }, "#/role"],
  ];
  test.each(invalidInputs)(
    "with %s returns 422 and the field's location, even if a stream is requested",
    async (_name, input, pointer) => {
      const problem = await anna.requestProblem("POST", path, input);
      expect(problem).toMatchObject({ status: 422, code: "invalid" });
      expect(problem.errors?.map((error) => error.pointer)).toContain(pointer);
      const streamed = await anna.request<ProblemBody>("POST", path, input, { accept: "text/event-stream" });
      expect(streamed).toMatchObject({ status: 422, body: { code: "invalid" } });
      expect(streamed.headers.get("content-type")).toBe("application/problem+json");
      expect(await listHistory()).toEqual([]);
    },
  );

  const invalidBodies: [string, string, string, number, string][] = [
    ["invalid JSON", '{"content":', "application/json", 400, "malformed"],
    ["plain text", "content", "text/plain", 415, "unsupported_media_type"],
    ["JSON declared as text", '{"content":"a"}', "text/plain", 415, "unsupported_media_type"],
    ["form data", "content=a", "application/x-www-form-urlencoded", 415, "unsupported_media_type"],
    ["2 MB", JSON.stringify({ content: "x".repeat(2_000_000) }), "application/json", 413, "too_large"],
    ["zero bytes", "", "application/json", 422, "invalid"],
    ["null", "null", "application/json", 422, "invalid"],
  ];
  test.each(invalidBodies)("with a body of %s returns an error", async (_name, body, type, status, code) => {
    const response = await fetch(`${parley.url}/api/v1${path}`, {
      method: "POST",
      headers: { authorization: `Bearer ${anna.account.access_token}`, "content-type": type },
      body,
    });
    expect(response.status).toBe(status);
    expect(((await response.json()) as ProblemBody).code).toBe(code);
    expect(await listHistory()).toEqual([]);
  });

  test("with an unknown model or conversation returns an error", async () => {
    expect(await anna.requestProblem("POST", path, { content: "a", reply: true, model: "openai/none" })).toMatchObject({
      status: 422,
      code: "unknown_model",
    });
    const unknownPath = `/conversations/${createId()}/messages`;
    expect(await anna.requestProblem("POST", unknownPath, { content: "a" })).toMatchObject({ status: 404 });
    expect(await anna.requestProblem("POST", "/conversations/x/messages", { content: "a" })).toMatchObject({
      status: 422,
      errors: [{ pointer: "#/params/id" }],
    });
    expect(await listHistory()).toEqual([]);
  });
});
