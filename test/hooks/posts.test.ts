import { afterAll, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import type { ProblemBody } from "../../src/http/problem-response.ts";
import type { CreatedHook } from "../../src/modules/hooks/model.ts";
import { CONTENT_CHARS_MAX } from "../../src/protocol/frames.ts";
import type { Message } from "../../src/protocol/message.ts";
import { startApp, type TestApp } from "../support/app.ts";
import { createConversation } from "../support/conversation.ts";
import { createRestClient, type RestClient } from "../support/rest.ts";
import { openSocket } from "../support/socket.ts";
import { createHook, postToHook } from "./start-hooks.ts";

let parley: TestApp;
let anna: RestClient;
let ben: RestClient;
let conversationId: string;
let messagesPath: string;
let hook: CreatedHook;

beforeAll(async () => {
  parley = await startApp();
  const accounts = await Promise.all(["Anna", "Ben"].map((name) => parley.register(undefined, name)));
  [anna, ben] = accounts.map((account) => createRestClient(parley, account)) as [RestClient, RestClient];
});
afterAll(() => parley.stop());

beforeEach(async () => {
  conversationId = (await createConversation(parley, anna.account, [ben.account])).id;
  messagesPath = `/conversations/${conversationId}/messages`;
  hook = await createHook(ben, conversationId);
});

const listMessages = async () => (await anna.get<{ data: Message[] }>(messagesPath)).body.data;
const getUnreadCount = async (user: RestClient) =>
  (await user.get<{ unread: number }>(`/conversations/${conversationId}`)).body.unread;
const postInvalid = async (body: unknown, headers?: Record<string, string>) =>
  (await postToHook<ProblemBody>(parley, hook, body, headers)).body;

describe("a post", () => {
  test("is a message from an integration, and is the same in all responses and events", async () => {
    const socket = await openSocket(parley.url, { token: anna.account.access_token });
    await socket.request({ type: "subscribe", conversation_id: conversationId });
    const { status, headers, body } = await postToHook(parley, hook, { content: "Deployed ☔" });
    expect(status).toBe(201);
    expect(headers.get("location")).toBe(`/api/v1${messagesPath}/${body.message.id}`);
    expect(body).toEqual({
      reply: null,
      message: {
        id: expect.stringMatching(/^[0-9a-f]{8}-[0-9a-f]{4}-7/),
        conversation_id: conversationId,
        seq: 2,
        role: "user",
        author: { id: hook.id, display_name: "Deployments", kind: "integration" },
        supplied: false,
        content: "Deployed ☔",
        status: "complete",
        model: null,
        finish_reason: null,
        usage: null,
        parent_id: null,
        client_message_id: null,
        error: null,
        reasoning: null,
        output: null,
        metadata: {},
        created_at: expect.any(String),
        updated_at: body.message.created_at,
        deleted_at: null,
      },
    });
    expect(await listMessages()).toEqual([body.message]);
    expect((await anna.get<Message>(`${messagesPath}/${body.message.id}`)).body).toEqual(body.message);
    const pushedFrame = await socket.waitFor((frame) => frame.type === "message.created");
    expect(pushedFrame.data).toEqual(body.message as never);
    const { data } = (
      await anna.get<{ data: { data: unknown }[] }>(`/conversations/${conversationId}/events?after_seq=1`)
    ).body;
    expect(data.map((event) => event.data)).toEqual([body.message]);
    await socket.close();
  });

  test("can set the author's display name", async () => {
    await postToHook(parley, hook, { content: "one", display_name: " Build 7 " });
    await postToHook(parley, hook, { content: "two", display_name: null });
    expect((await listMessages()).map(({ author }) => author?.display_name).sort()).toEqual(["Build 7", "Deployments"]);
  });

  test("is unread for every member, including the hook's creator", async () => {
    await anna.request("POST", messagesPath, { content: "read" });
    await ben.request("POST", messagesPath, { content: "read" });
    await postToHook(parley, hook, { content: "new" });
    await postToHook(parley, hook, { content: "newer" });
    expect([await getUnreadCount(anna), await getUnreadCount(ben)]).toEqual([3, 2]);
    await ben.request("POST", messagesPath, { content: "I have read it" });
    expect([await getUnreadCount(anna), await getUnreadCount(ben)]).toEqual([4, 0]);
  });

  test("can't be edited, and only owners can delete it", async () => {
    const { message } = (await postToHook(parley, hook, { content: "x" })).body;
    const messagePath = `${messagesPath}/${message.id}`;
    for (const user of [anna, ben])
      expect(await user.requestProblem("PATCH", messagePath, { content: "y" })).toMatchObject({ code: "forbidden" });
    expect(await ben.requestProblem("DELETE", messagePath)).toMatchObject({ code: "forbidden" });
    expect((await anna.request("DELETE", messagePath)).status).toBe(204);
    expect((await anna.get<Message>(messagePath)).body).toMatchObject({
      content: "",
      author: { id: hook.id, display_name: "Deployments", kind: "integration" },
    });
  });

  test("is kept when its hook is deleted or the hook's creator leaves", async () => {
    const { message } = (await postToHook(parley, hook, { content: "x" })).body;
    const secondMessage = (
      await postToHook(parley, await createHook(ben, conversationId, { name: "Second" }), { content: "y" })
    ).body.message;
    await ben.request("DELETE", `/conversations/${conversationId}/hooks/${hook.id}`);
    await ben.request("DELETE", `/conversations/${conversationId}/members/${ben.id}`);
    expect(await listMessages()).toEqual(expect.arrayContaining([message, secondMessage]));
  });

  test("counts toward the stored bytes of the hook's creator until it is deleted", async () => {
    const getUsedBytes = async (user: RestClient) => {
      const [row] = await parley.database<{ bytes: number }[]>`
        select written_bytes as bytes from members where conversation_id = ${conversationId} and user_id = ${user.id}`;
      return row?.bytes;
    };
    const { message } = (await postToHook(parley, hook, { content: "four" })).body;
    expect([await getUsedBytes(anna), await getUsedBytes(ben)]).toEqual([0, 4]);
    await anna.request("DELETE", `${messagesPath}/${message.id}`);
    expect([await getUsedBytes(anna), await getUsedBytes(ben)]).toEqual([0, 0]);
  });
});

describe("in a post,", () => {
  const formHeaders = { "content-type": "application/x-www-form-urlencoded" };
  const slackPosts: [string, unknown, Record<string, string>?][] = [
    ["Slack's JSON", { text: "Hello", channel: "#general", icon_emoji: ":ghost:" }],
    ["Slack's payload in a form", new URLSearchParams({ payload: '{"text":"Hello"}' }).toString(), formHeaders],
    ["JSON sent as a form, as curl does", '{"text":"Hello"}', formHeaders],
    ["fields of a form", "text=Hello", formHeaders],
    ["blocks", { blocks: [{ type: "section", text: { type: "mrkdwn", text: "Hello" } }, { type: "divider" }] }],
    ["an attachment", { attachments: [{ fallback: "short", text: "Hello" }, 7] }],
    ["JSON without a type", '{"text":"Hello"}', { "content-type": "" }],
  ];
  for (const [name, body, headers] of slackPosts)
    test(`${name} is accepted with the response "ok", as Slack sends it`, async () => {
      const response = await postToHook<string>(parley, hook, body, headers);
      expect([response.status, response.headers.get("content-type"), response.body]).toEqual([
        200,
        "text/plain; charset=utf-8",
        "ok",
      ]);
      expect(await listMessages()).toMatchObject([{ content: "Hello", author: { display_name: "Deployments" } }]);
    });

  test("Slack's username becomes the author's display name if it is valid", async () => {
    await postToHook(parley, hook, { text: "a", username: "robot" });
    await postToHook(parley, hook, { text: "b", username: "bad\nname" });
    expect((await listMessages()).map(({ author }) => author?.display_name).sort()).toEqual(["Deployments", "robot"]);
  });

  test("plain text becomes the content", async () => {
    const response = await postToHook(parley, hook, "line 1\nline 2", { "content-type": "text/plain; charset=utf-8" });
    expect(response.status).toBe(201);
    expect(response.body.message.content).toBe("line 1\nline 2");
  });

  test("Parley's JSON is also accepted in a form's payload, and the response is JSON", async () => {
    const body = new URLSearchParams({ payload: '{"content":"Hello"}' }).toString();
    expect((await postToHook(parley, hook, body, formHeaders)).body.message.content).toBe("Hello");
  });

  test("invalid bodies are rejected, and nothing is posted", async () => {
    const tooLongContent = "x".repeat(CONTENT_CHARS_MAX + 1);
    expect(await postInvalid({})).toMatchObject({ code: "invalid" });
    expect(await postInvalid([])).toMatchObject({ code: "invalid" });
    expect(await postInvalid({ content: "" })).toMatchObject({ errors: [{ pointer: "#/content" }] });
    expect(await postInvalid({ content: tooLongContent })).toMatchObject({ errors: [{ pointer: "#/content" }] });
    expect(await postInvalid({ text: tooLongContent })).toMatchObject({ errors: [{ pointer: "#/text" }] });
    expect(await postInvalid({ text: "" })).toMatchObject({ errors: [{ pointer: "#/text" }] });
    expect(await postInvalid({ text: 7 })).toMatchObject({ errors: [{ pointer: "#/text" }] });
    expect(await postInvalid({ content: "x", text: "y" })).toMatchObject({ errors: [{ pointer: "#/text" }] });
    expect(await postInvalid({ content: "x", display_name: " " })).toMatchObject({
      errors: [{ pointer: "#/display_name" }],
    });
    expect(await postInvalid({ content: "x", display_name: "a\nb" })).toMatchObject({ code: "invalid" });
    expect(await postInvalid({ content: "a\0b" })).toMatchObject({ code: "invalid" });
    expect(await postInvalid("payload=%7B", formHeaders)).toMatchObject({ code: "malformed" });
    expect(await postInvalid("", formHeaders)).toMatchObject({ code: "invalid" });
    expect(await postInvalid('{"text":', { "content-type": "application/json" })).toMatchObject({ code: "malformed" });
    expect(await postInvalid("<a/>", { "content-type": "text/xml" })).toMatchObject({ code: "unsupported_media_type" });
    expect(await postInvalid({ content: "x" }, { "content-encoding": "gzip" })).toMatchObject({
      code: "unsupported_media_type",
    });
    expect(await postInvalid({ content: "x".repeat(2 ** 20) })).toMatchObject({ code: "too_large" });
    expect(await listMessages()).toEqual([]);
  });

  test("content of the maximum length is accepted", async () => {
    const { status } = await postToHook(parley, hook, { content: "x".repeat(CONTENT_CHARS_MAX) });
    expect(status).toBe(201);
  });
});

describe("a repeated post", () => {
  test("returns the same message if it has the same Idempotency-Key", async () => {
    const key = { "idempotency-key": '"k-1"' };
    const firstResponse = await postToHook(parley, hook, { content: "once" }, key);
    const repeatedResponse = await postToHook(parley, hook, { content: "once" }, key);
    expect(firstResponse.headers.has("idempotent-replayed")).toBe(false);
    expect([
      repeatedResponse.status,
      repeatedResponse.headers.get("idempotent-replayed"),
      repeatedResponse.body,
    ]).toEqual([201, "true", firstResponse.body]);
    for (const changedBody of [{ content: "other" }, { content: "once", display_name: "Somebody else" }])
      expect(await postInvalid(changedBody, key)).toMatchObject({ code: "idempotency_key_reused" });
    expect(await listMessages()).toHaveLength(1);
  });

  test("is posted once, even if the requests arrive at the same time", async () => {
    const key = { "webhook-id": "msg_1" };
    const responses = await Promise.all([1, 2, 3, 4].map(() => postToHook(parley, hook, { content: "once" }, key)));
    expect(new Set(responses.map(({ body }) => body.message.id)).size).toBe(1);
    expect(await listMessages()).toHaveLength(1);
  });

  test("creates a separate message if it is sent to a different hook, or by the hook's creator", async () => {
    const otherHook = await createHook(ben, conversationId);
    const key = { "idempotency-key": "k-1" };
    await postToHook(parley, hook, { content: "x" }, key);
    await postToHook(parley, otherHook, { content: "x" }, key);
    await ben.request("POST", messagesPath, { content: "x", client_message_id: "k-1" });
    await Promise.all([
      postToHook(parley, hook, { content: "y" }, { "idempotency-key": "k-2" }),
      postToHook(parley, otherHook, { content: "y" }, { "idempotency-key": "k-2" }),
      ben.request("POST", messagesPath, { content: "y", client_message_id: "k-2" }),
    ]);
    expect(await listMessages()).toHaveLength(6);
  });

  test("is rejected if its key is too long", async () => {
    expect((await postToHook(parley, hook, { content: "x" }, { "webhook-id": "x".repeat(255) })).status).toBe(201);
    for (const header of ["webhook-id", "idempotency-key"])
      expect(await postInvalid({ content: "x" }, { [header]: "x".repeat(256) })).toMatchObject({ code: "malformed" });
  });
});
