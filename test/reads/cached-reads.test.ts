import { afterAll, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import type { Conversation } from "../../src/protocol/conversation.ts";
import type { Message } from "../../src/protocol/message.ts";
import { createKey, registerAdmin } from "../api-keys/create-key.ts";
import { createConversation } from "../support/conversation.ts";
import { createRestClient, type RestClient } from "../support/rest.ts";
import { openSocket } from "../support/socket.ts";
import { type InstancePair, startInstancePair } from "./start-instance-pair.ts";

let pair: InstancePair;
let anna: RestClient;
let ben: RestClient;
let root: RestClient;
let promptId: string;
let conversationId: string;
let message: Message;

beforeAll(async () => {
  pair = await startInstancePair();
  root = createRestClient(pair.cachedInstance, await registerAdmin(pair.cachedInstance));
});
afterAll(() => pair.stop());

beforeEach(async () => {
  const { cachedInstance } = pair;
  anna = createRestClient(cachedInstance, await cachedInstance.register(undefined, "Anna"));
  ben = createRestClient(cachedInstance, await cachedInstance.register(undefined, "Ben"));
  promptId = (await anna.request<{ id: string }>("POST", "/prompts", { name: "p", template: "Be brief." })).body.id;
  conversationId = (await createConversation(cachedInstance, anna.account, [ben.account], { prompt_id: promptId })).id;
  message = await sendMessage(ben, "Hello");
});

const getMessagesPath = () => `/conversations/${conversationId}/messages`;
const sendMessage = async (sender: RestClient, content: string): Promise<Message> =>
  (await sender.request<{ message: Message }>("POST", getMessagesPath(), { content, reply: false })).body.message;
const listPaths = () => [
  "/conversations",
  "/conversations?limit=1",
  `/conversations/${conversationId}`,
  `/conversations/${conversationId}/members`,
  `/conversations/${conversationId}/members?limit=1`,
  getMessagesPath(),
  `${getMessagesPath()}?after_seq=1&limit=2`,
  "/prompts",
  `/prompts/${promptId}`,
  "/documents",
];
const getToken = ({ account }: RestClient) => account.access_token;
const listReaders = () => [anna, ben, root];

/** Fills the cache with every user's reads, makes a change, and expects all users to read the new state. */
async function expectFreshReads(change: () => Promise<unknown>): Promise<void> {
  for (const { get } of listReaders()) await Promise.all(listPaths().map((path) => get(path)));
  await change();
  for (const reader of listReaders()) await pair.expectSame(getToken(reader), listPaths());
}

/** Sends a frame over a new socket, and expects an ack. */
async function sendFrame(sender: RestClient, frame: Record<string, unknown> & { type: string }) {
  const socket = await openSocket(pair.cachedInstance.url, { token: getToken(sender) });
  expect(await socket.request(frame)).toMatchObject({ type: "ack" });
  await socket.close();
}

async function expectOk(response: Promise<{ status: number }>): Promise<void> {
  expect((await response).status).toBeLessThan(300);
}

test("a repeated read is served from the cache", async () => {
  await pair.readUntilHit(anna.account, "conversations", "/conversations");
  await pair.readUntilHit(anna.account, "conversation", `/conversations/${conversationId}`);
  await pair.readUntilHit(anna.account, "members", `/conversations/${conversationId}/members`);
  await pair.readUntilHit(anna.account, "history", getMessagesPath());
  await pair.readUntilHit(anna.account, "prompts", "/prompts");
  await pair.readUntilHit(anna.account, "prompt", `/prompts/${promptId}`);
  await pair.readUntilHit(anna.account, "documents", "/documents");
});

describe("all users immediately read the new state", () => {
  const changes: Record<string, () => Promise<unknown>> = {
    "a message": () => sendMessage(anna, "Hi"),
    "a message over a socket": () =>
      sendFrame(ben, {
        type: "message.send",
        conversation_id: conversationId,
        client_message_id: "1",
        content: "x",
        reply: false,
      }),
    "an edit": () => expectOk(ben.request("PATCH", `${getMessagesPath()}/${message.id}`, { content: "Hello!" })),
    "a deletion": () => expectOk(anna.request("DELETE", `${getMessagesPath()}/${message.id}`)),
    "a read position": () => sendFrame(anna, { type: "read", conversation_id: conversationId, seq: 2 }),
    "a changed title": () => expectOk(anna.request("PATCH", `/conversations/${conversationId}`, { title: "Another" })),
    "a changed role": () =>
      expectOk(anna.request("POST", `/conversations/${conversationId}/members`, { user_id: ben.id, role: "viewer" })),
    "a new member": () =>
      expectOk(anna.request("POST", `/conversations/${conversationId}/members`, { user_id: root.id })),
    "a removed member": () => expectOk(anna.request("DELETE", `/conversations/${conversationId}/members/${ben.id}`)),
    "a member who leaves": () => expectOk(ben.request("DELETE", `/conversations/${conversationId}/members/${ben.id}`)),
    "a new conversation": () => createConversation(pair.cachedInstance, ben.account),
    "a deleted conversation": () => expectOk(anna.request("DELETE", `/conversations/${conversationId}`)),
    "a changed name": () => expectOk(ben.request("PATCH", "/me", { display_name: "Benjamin" })),
    "a name changed by an administrator": () =>
      expectOk(root.request("PATCH", `/users/${ben.id}`, { display_name: "Benny" })),
    "a deleted author": () => expectOk(root.request("DELETE", `/users/${ben.id}`)),
    "a deleted owner": () => expectOk(root.request("DELETE", `/users/${anna.id}`)),
    "a changed template": () => expectOk(anna.request("PATCH", `/prompts/${promptId}`, { template: "Be verbose." })),
    "a new prompt": () => expectOk(anna.request("POST", "/prompts", { name: "q", template: "x", is_default: true })),
    "a deleted prompt": () => expectOk(anna.request("DELETE", `/prompts/${promptId}`)),
    "a hook's message": async () => {
      const hook = await anna.request<{ token: string }>("POST", `/conversations/${conversationId}/hooks`, {
        name: "CI",
      });
      await expectOk(pair.cachedInstance.fetch(`/api/v1/hooks/${hook.body.token}`, { json: { content: "Built." } }));
    },
  };
  for (const [name, change] of Object.entries(changes)) test(`after ${name}`, () => expectFreshReads(change));

  test("after an answer", async () => {
    const socket = await openSocket(pair.cachedInstance.url, { token: getToken(anna) });
    await socket.request({ type: "subscribe", conversation_id: conversationId });
    await expectFreshReads(async () => {
      await anna.request("POST", getMessagesPath(), { content: "What is a budget?", reply: true });
      await socket.waitFor(({ type }) => type === "message.completed");
    });
    await socket.close();
  });
});

describe("another user's cached response is never returned to", () => {
  test("an outsider", async () => {
    await pair.readUntilHit(anna.account, "conversation", `/conversations/${conversationId}`);
    await pair.readUntilHit(anna.account, "members", `/conversations/${conversationId}/members`);
    await pair.readUntilHit(anna.account, "history", getMessagesPath());
    await pair.readUntilHit(anna.account, "prompt", `/prompts/${promptId}`);
    for (const path of [
      `/conversations/${conversationId}`,
      `/conversations/${conversationId}/members`,
      getMessagesPath(),
      `/prompts/${promptId}`,
    ])
      expect((await root.get(path)).status).toBe(404);
    expect((await root.get<{ data: unknown[] }>("/prompts")).body.data).toEqual([]);
    expect((await pair.cachedInstance.fetch(`/api/v1/conversations/${conversationId}`)).status).toBe(401);
  });

  test("a removed member", async () => {
    await pair.readUntilHit(ben.account, "conversation", `/conversations/${conversationId}`);
    await pair.readUntilHit(ben.account, "members", `/conversations/${conversationId}/members`);
    await pair.readUntilHit(ben.account, "history", getMessagesPath());
    await anna.request("DELETE", `/conversations/${conversationId}/members/${ben.id}`);
    for (const path of [
      `/conversations/${conversationId}`,
      `/conversations/${conversationId}/members`,
      getMessagesPath(),
    ])
      expect((await ben.get(path)).status).toBe(404);
    expect((await ben.get<{ data: unknown[] }>("/conversations")).body.data).toEqual([]);
  });

  test("a member with a different role and read position", async () => {
    await sendFrame(anna, { type: "read", conversation_id: conversationId, seq: message.seq });
    await sendMessage(ben, "And?");
    for (const [reader, role, unread] of [
      [anna, "owner", 1],
      [ben, "member", 0],
    ] as const) {
      await pair.readUntilHit(reader.account, "conversation", `/conversations/${conversationId}`);
      expect((await reader.get<Conversation>(`/conversations/${conversationId}`)).body).toMatchObject({ role, unread });
    }
  });

  test("a member whose role has changed", async () => {
    for (const role of ["viewer", "member", "owner", "viewer"]) {
      await anna.request("POST", `/conversations/${conversationId}/members`, { user_id: ben.id, role });
      expect((await ben.get<Conversation>(`/conversations/${conversationId}`)).body.role).toBe(
        role as Conversation["role"],
      );
      const { status } = await ben.request("POST", getMessagesPath(), { content: "May I?", reply: false });
      expect(status).toBe(role === "viewer" ? 403 : 201);
    }
  });

  test("another user of a service key", async () => {
    const scopes = ["conversations:read", "messages:read"];
    const { key } = await createKey(pair.cachedInstance, root.account, { scopes, service: true });
    for (let round = 0; round < 2; round += 1) {
      for (const { id: userId } of [anna, ben])
        await pair.expectSame(key, ["/conversations", `/conversations/${conversationId}`], {
          "x-on-behalf-of": userId,
        });
      const responseWithoutUser = await pair.cachedInstance.fetch("/api/v1/conversations", { token: key });
      expect(await responseWithoutUser.text()).not.toContain(conversationId);
      expect((await pair.cachedInstance.fetch(`/api/v1/conversations/${conversationId}`, { token: key })).status).toBe(
        404,
      );
    }
  });

  test("an API key without the scope", async () => {
    const { key } = await createKey(pair.cachedInstance, anna.account, { scopes: ["messages:read"] });
    await pair.readUntilHit(anna.account, "conversations", "/conversations");
    expect((await pair.cachedInstance.fetch("/api/v1/conversations", { token: key })).status).toBe(403);
  });
});

describe("an ETag", () => {
  test("returns 304 until the state changes, even for a list or a history", async () => {
    for (const path of listPaths()) {
      const etag = String((await anna.get(path)).headers.get("etag"));
      expect(etag).toMatch(/^"[^"]+"$/);
      expect((await anna.get(path, { "if-none-match": etag })).status).toBe(304);
    }
    const etag = String((await anna.get(getMessagesPath())).headers.get("etag"));
    await sendMessage(ben, "News");
    const { status, body } = await anna.get<{ data: Message[] }>(getMessagesPath(), { "if-none-match": etag });
    expect([status, body.data.at(-1)?.content]).toEqual([200, "News"]);
  });

  test("from one user's response is not valid for another user", async () => {
    const [annasResponse, bensResponse] = [
      await anna.get(`/conversations/${conversationId}`),
      await ben.get(`/conversations/${conversationId}`),
    ];
    const response = await ben.get(`/conversations/${conversationId}`, {
      "if-none-match": String(annasResponse.headers.get("etag")),
    });
    expect(response.status).toBe(200);
    expect(response.body).toEqual(bensResponse.body);
  });
});

test("a cached first page includes a conversation that moves up to that page", async () => {
  const ids: string[] = [];
  for (let n = 0; n < 4; n += 1) ids.push((await createConversation(pair.cachedInstance, anna.account)).id);
  await pair.readUntilHit(anna.account, "conversations", "/conversations?limit=2");
  await sendMessage(ben, "Moves the oldest one up");
  const { body } = await anna.get<{ data: Conversation[] }>("/conversations?limit=2");
  expect(body.data.map((conversation) => conversation.id)).toEqual([conversationId, String(ids.at(-1))]);
});
