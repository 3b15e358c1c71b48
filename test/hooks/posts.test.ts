import { afterAll, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import type { ProblemBody } from "../../src/http/problem-response.ts";
import type { CreatedHook } from "../../src/modules/hooks/model.ts";
import { CONTENT_CHARS_MAX } from "../../src/protocol/frames.ts";
import type { Message } from "../../src/protocol/message.ts";
import { startApp, type TestApp } from "../support/app.ts";
import { createConversation } from "../support/conversation.ts";
import { createRest, type Rest } from "../support/rest.ts";
import { openSocket } from "../support/socket.ts";
import { createHook, post } from "./start-hooks.ts";

let parley: TestApp;
let anna: Rest;
let ben: Rest;
let id: string;
let messages: string;
let hook: CreatedHook;

beforeAll(async () => {
  parley = await startApp();
  const accounts = await Promise.all(["Anna", "Ben"].map((name) => parley.register(undefined, name)));
  [anna, ben] = accounts.map((account) => createRest(parley, account)) as [Rest, Rest];
});
afterAll(() => parley.stop());

beforeEach(async () => {
  id = (await createConversation(parley, anna.account, [ben.account])).id;
  messages = `/conversations/${id}/messages`;
  hook = await createHook(ben, id);
});

const history = async () => (await anna.get<{ data: Message[] }>(messages)).body.data;
const unread = async (by: Rest) => (await by.get<{ unread: number }>(`/conversations/${id}`)).body.unread;
const refused = async (body: unknown, headers?: Record<string, string>) =>
  (await post<ProblemBody>(parley, hook, body, headers)).body;

describe("a post", () => {
  test("is a message of an integration, for all members alike", async () => {
    const socket = await openSocket(parley.url, { token: anna.account.access_token });
    await socket.request({ type: "subscribe", conversation_id: id });
    const { status, headers, body } = await post(parley, hook, { content: "Deployed ☔" });
    expect(status).toBe(201);
    expect(headers.get("location")).toBe(`/api/v1${messages}/${body.message.id}`);
    expect(body).toEqual({
      reply: null,
      message: {
        id: expect.stringMatching(/^[0-9a-f]{8}-[0-9a-f]{4}-7/),
        conversation_id: id,
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
    expect(await history()).toEqual([body.message]);
    expect((await anna.get<Message>(`${messages}/${body.message.id}`)).body).toEqual(body.message);
    const pushed = await socket.waitFor((frame) => frame.type === "message.created");
    expect(pushed.data).toEqual(body.message as never);
    const { data } = (await anna.get<{ data: { data: unknown }[] }>(`/conversations/${id}/events?after_seq=1`)).body;
    expect(data.map((event) => event.data)).toEqual([body.message]);
    await socket.close();
  });

  test("may set its own display name", async () => {
    await post(parley, hook, { content: "one", display_name: " Build 7 " });
    await post(parley, hook, { content: "two", display_name: null });
    expect((await history()).map(({ author }) => author?.display_name).sort()).toEqual(["Build 7", "Deployments"]);
  });

  test("is unread for every member, including the hook's creator", async () => {
    await anna.request("POST", messages, { content: "read" });
    await ben.request("POST", messages, { content: "read" });
    await post(parley, hook, { content: "new" });
    await post(parley, hook, { content: "newer" });
    expect([await unread(anna), await unread(ben)]).toEqual([3, 2]);
    await ben.request("POST", messages, { content: "I have read it" });
    expect([await unread(anna), await unread(ben)]).toEqual([4, 0]);
  });

  test("can't be edited, and only owners can delete it", async () => {
    const { message } = (await post(parley, hook, { content: "x" })).body;
    const at = `${messages}/${message.id}`;
    for (const by of [anna, ben])
      expect(await by.refused("PATCH", at, { content: "y" })).toMatchObject({ code: "forbidden" });
    expect(await ben.refused("DELETE", at)).toMatchObject({ code: "forbidden" });
    expect((await anna.request("DELETE", at)).status).toBe(204);
    expect((await anna.get<Message>(at)).body).toMatchObject({
      content: "",
      author: { id: hook.id, display_name: "Deployments", kind: "integration" },
    });
  });

  test("stays when its hook is deleted or its creator leaves", async () => {
    const { message } = (await post(parley, hook, { content: "x" })).body;
    const left = (await post(parley, await createHook(ben, id, { name: "Second" }), { content: "y" })).body.message;
    await ben.request("DELETE", `/conversations/${id}/hooks/${hook.id}`);
    await ben.request("DELETE", `/conversations/${id}/members/${ben.id}`);
    expect(await history()).toEqual(expect.arrayContaining([message, left]));
  });

  test("counts toward the stored bytes of the hook's creator until it is deleted", async () => {
    const used = async (by: Rest) => {
      const [row] = await parley.database<{ bytes: number }[]>`
        select written_bytes as bytes from members where conversation_id = ${id} and user_id = ${by.id}`;
      return row?.bytes;
    };
    const { message } = (await post(parley, hook, { content: "four" })).body;
    expect([await used(anna), await used(ben)]).toEqual([0, 4]);
    await anna.request("DELETE", `${messages}/${message.id}`);
    expect([await used(anna), await used(ben)]).toEqual([0, 0]);
  });
});

describe("formats of a post", () => {
  const form = { "content-type": "application/x-www-form-urlencoded" };
  const slack: [string, unknown, Record<string, string>?][] = [
    ["Slack's JSON", { text: "Hello", channel: "#general", icon_emoji: ":ghost:" }],
    ["Slack's payload in a form", new URLSearchParams({ payload: '{"text":"Hello"}' }).toString(), form],
    ["JSON sent as a form, as curl does", '{"text":"Hello"}', form],
    ["fields of a form", "text=Hello", form],
    ["blocks", { blocks: [{ type: "section", text: { type: "mrkdwn", text: "Hello" } }, { type: "divider" }] }],
    ["an attachment", { attachments: [{ fallback: "short", text: "Hello" }, 7] }],
    ["JSON without a type", '{"text":"Hello"}', { "content-type": "" }],
  ];
  for (const [name, body, headers] of slack)
    test(`${name} gets the response "ok", as from Slack`, async () => {
      const answer = await post<string>(parley, hook, body, headers);
      expect([answer.status, answer.headers.get("content-type"), answer.body]).toEqual([
        200,
        "text/plain; charset=utf-8",
        "ok",
      ]);
      expect(await history()).toMatchObject([{ content: "Hello", author: { display_name: "Deployments" } }]);
    });

  test("Slack's username becomes the author's name, as far as it is valid", async () => {
    await post(parley, hook, { text: "a", username: "robot" });
    await post(parley, hook, { text: "b", username: "bad\nname" });
    expect((await history()).map(({ author }) => author?.display_name).sort()).toEqual(["Deployments", "robot"]);
  });

  test("plain text is the content", async () => {
    const answer = await post(parley, hook, "line 1\nline 2", { "content-type": "text/plain; charset=utf-8" });
    expect(answer.status).toBe(201);
    expect(answer.body.message.content).toBe("line 1\nline 2");
  });

  test("our JSON in a form's payload gets our JSON response", async () => {
    const body = new URLSearchParams({ payload: '{"content":"Hello"}' }).toString();
    expect((await post(parley, hook, body, form)).body.message.content).toBe("Hello");
  });

  test("invalid bodies are refused, and nothing is posted", async () => {
    const long = "x".repeat(CONTENT_CHARS_MAX + 1);
    expect(await refused({})).toMatchObject({ code: "invalid" });
    expect(await refused([])).toMatchObject({ code: "invalid" });
    expect(await refused({ content: "" })).toMatchObject({ errors: [{ pointer: "#/content" }] });
    expect(await refused({ content: long })).toMatchObject({ errors: [{ pointer: "#/content" }] });
    expect(await refused({ text: long })).toMatchObject({ errors: [{ pointer: "#/text" }] });
    expect(await refused({ text: "" })).toMatchObject({ errors: [{ pointer: "#/text" }] });
    expect(await refused({ text: 7 })).toMatchObject({ errors: [{ pointer: "#/text" }] });
    expect(await refused({ content: "x", text: "y" })).toMatchObject({ errors: [{ pointer: "#/text" }] });
    expect(await refused({ content: "x", display_name: " " })).toMatchObject({
      errors: [{ pointer: "#/display_name" }],
    });
    expect(await refused({ content: "x", display_name: "a\nb" })).toMatchObject({ code: "invalid" });
    expect(await refused({ content: "a\0b" })).toMatchObject({ code: "invalid" });
    expect(await refused("payload=%7B", form)).toMatchObject({ code: "malformed" });
    expect(await refused("", form)).toMatchObject({ code: "invalid" });
    expect(await refused('{"text":', { "content-type": "application/json" })).toMatchObject({ code: "malformed" });
    expect(await refused("<a/>", { "content-type": "text/xml" })).toMatchObject({ code: "unsupported_media_type" });
    expect(await refused({ content: "x" }, { "content-encoding": "gzip" })).toMatchObject({
      code: "unsupported_media_type",
    });
    expect(await refused({ content: "x".repeat(2 ** 20) })).toMatchObject({ code: "too_large" });
    expect(await history()).toEqual([]);
  });

  test("a long text is accepted, as in a message", async () => {
    const { status } = await post(parley, hook, { content: "x".repeat(CONTENT_CHARS_MAX) });
    expect(status).toBe(201);
  });
});

describe("a repeated post", () => {
  test("returns the same message for the same Idempotency-Key", async () => {
    const key = { "idempotency-key": '"k-1"' };
    const first = await post(parley, hook, { content: "once" }, key);
    const again = await post(parley, hook, { content: "once" }, key);
    expect(first.headers.has("idempotent-replayed")).toBe(false);
    expect([again.status, again.headers.get("idempotent-replayed"), again.body]).toEqual([201, "true", first.body]);
    for (const other of [{ content: "other" }, { content: "once", display_name: "Somebody else" }])
      expect(await refused(other, key)).toMatchObject({ code: "idempotency_key_reused" });
    expect(await history()).toHaveLength(1);
  });

  test("is posted once, even if both requests arrive together", async () => {
    const key = { "webhook-id": "msg_1" };
    const posts = await Promise.all([1, 2, 3, 4].map(() => post(parley, hook, { content: "once" }, key)));
    expect(new Set(posts.map(({ body }) => body.message.id)).size).toBe(1);
    expect(await history()).toHaveLength(1);
  });

  test("is a separate message for another hook, or for the hook's creator", async () => {
    const other = await createHook(ben, id);
    const key = { "idempotency-key": "k-1" };
    await post(parley, hook, { content: "x" }, key);
    await post(parley, other, { content: "x" }, key);
    await ben.request("POST", messages, { content: "x", client_message_id: "k-1" });
    await Promise.all([
      post(parley, hook, { content: "y" }, { "idempotency-key": "k-2" }),
      post(parley, other, { content: "y" }, { "idempotency-key": "k-2" }),
      ben.request("POST", messages, { content: "y", client_message_id: "k-2" }),
    ]);
    expect(await history()).toHaveLength(6);
  });

  test("is refused with a key that is too long or not ASCII", async () => {
    expect((await post(parley, hook, { content: "x" }, { "webhook-id": "x".repeat(255) })).status).toBe(201);
    for (const header of ["webhook-id", "idempotency-key"])
      expect(await refused({ content: "x" }, { [header]: "x".repeat(256) })).toMatchObject({ code: "malformed" });
  });
});
