import { afterAll, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import type { Conversation } from "../../src/protocol/conversation.ts";
import type { Message } from "../../src/protocol/message.ts";
import { createKey, registerAdmin } from "../api-keys/create-key.ts";
import { createConversation } from "../support/conversation.ts";
import { createRest, type Rest } from "../support/rest.ts";
import { openSocket } from "../support/socket.ts";
import { type InstancePair, startInstancePair } from "./start-instance-pair.ts";

let pair: InstancePair;
let anna: Rest;
let ben: Rest;
let root: Rest;
let prompt: string;
let id: string;
let message: Message;

beforeAll(async () => {
  pair = await startInstancePair();
  root = createRest(pair.cached, await registerAdmin(pair.cached));
});
afterAll(() => pair.stop());

beforeEach(async () => {
  const { cached } = pair;
  anna = createRest(cached, await cached.register(undefined, "Anna"));
  ben = createRest(cached, await cached.register(undefined, "Ben"));
  prompt = (await anna.request<{ id: string }>("POST", "/prompts", { name: "p", template: "Be brief." })).body.id;
  id = (await createConversation(cached, anna.account, [ben.account], { prompt_id: prompt })).id;
  message = await send(ben, "Hello");
});

const messages = () => `/conversations/${id}/messages`;
const send = async (by: Rest, content: string): Promise<Message> =>
  (await by.request<{ message: Message }>("POST", messages(), { content, reply: false })).body.message;
const paths = () => [
  "/conversations",
  "/conversations?limit=1",
  `/conversations/${id}`,
  `/conversations/${id}/members`,
  `/conversations/${id}/members?limit=1`,
  messages(),
  `${messages()}?after_seq=1&limit=2`,
  "/prompts",
  `/prompts/${prompt}`,
  "/documents",
];
const tokenOf = ({ account }: Rest) => account.access_token;
const everyone = () => [anna, ben, root];

/** Everyone reads everything, so that it is cached; then, right after the change, everyone reads again. */
async function expectRightAfter(change: () => Promise<unknown>): Promise<void> {
  for (const { get } of everyone()) await Promise.all(paths().map((path) => get(path)));
  await change();
  for (const reader of everyone()) await pair.expectSame(tokenOf(reader), paths());
}

/** Over a socket that is then closed. */
async function ask(by: Rest, frame: Record<string, unknown> & { type: string }) {
  const socket = await openSocket(pair.cached.url, { token: tokenOf(by) });
  expect(await socket.request(frame)).toMatchObject({ type: "ack" });
  await socket.close();
}

async function expectOk(answer: Promise<{ status: number }>): Promise<void> {
  expect((await answer).status).toBeLessThan(300);
}

test("a repeated read is served from the cache", async () => {
  await pair.readUntilHit(anna.account, "conversations", "/conversations");
  await pair.readUntilHit(anna.account, "conversation", `/conversations/${id}`);
  await pair.readUntilHit(anna.account, "members", `/conversations/${id}/members`);
  await pair.readUntilHit(anna.account, "history", messages());
  await pair.readUntilHit(anna.account, "prompts", "/prompts");
  await pair.readUntilHit(anna.account, "prompt", `/prompts/${prompt}`);
  await pair.readUntilHit(anna.account, "documents", "/documents");
});

describe("right after a change everyone reads the new state:", () => {
  const changes: Record<string, () => Promise<unknown>> = {
    "a message": () => send(anna, "Hi"),
    "a message over a socket": () =>
      ask(ben, { type: "message.send", conversation_id: id, client_message_id: "1", content: "x", reply: false }),
    "an edit": () => expectOk(ben.request("PATCH", `${messages()}/${message.id}`, { content: "Hello!" })),
    "a deletion": () => expectOk(anna.request("DELETE", `${messages()}/${message.id}`)),
    "a read position": () => ask(anna, { type: "read", conversation_id: id, seq: 2 }),
    "a title": () => expectOk(anna.request("PATCH", `/conversations/${id}`, { title: "Another" })),
    "another role": () =>
      expectOk(anna.request("POST", `/conversations/${id}/members`, { user_id: ben.id, role: "viewer" })),
    "a new member": () => expectOk(anna.request("POST", `/conversations/${id}/members`, { user_id: root.id })),
    "a removed member": () => expectOk(anna.request("DELETE", `/conversations/${id}/members/${ben.id}`)),
    "a member who leaves": () => expectOk(ben.request("DELETE", `/conversations/${id}/members/${ben.id}`)),
    "a new conversation": () => createConversation(pair.cached, ben.account),
    "a deleted conversation": () => expectOk(anna.request("DELETE", `/conversations/${id}`)),
    "a name": () => expectOk(ben.request("PATCH", "/me", { display_name: "Benjamin" })),
    "a name by an administrator": () => expectOk(root.request("PATCH", `/users/${ben.id}`, { display_name: "Benny" })),
    "a deleted author": () => expectOk(root.request("DELETE", `/users/${ben.id}`)),
    "a deleted owner": () => expectOk(root.request("DELETE", `/users/${anna.id}`)),
    "another template": () => expectOk(anna.request("PATCH", `/prompts/${prompt}`, { template: "Be verbose." })),
    "a new prompt": () => expectOk(anna.request("POST", "/prompts", { name: "q", template: "x", is_default: true })),
    "a deleted prompt": () => expectOk(anna.request("DELETE", `/prompts/${prompt}`)),
    "a post of a hook": async () => {
      const hook = await anna.request<{ token: string }>("POST", `/conversations/${id}/hooks`, { name: "CI" });
      await expectOk(pair.cached.fetch(`/api/v1/hooks/${hook.body.token}`, { json: { content: "Built." } }));
    },
  };
  for (const [name, change] of Object.entries(changes)) test(name, () => expectRightAfter(change));

  test("an answer, from start to end", async () => {
    const socket = await openSocket(pair.cached.url, { token: tokenOf(anna) });
    await socket.request({ type: "subscribe", conversation_id: id });
    await expectRightAfter(async () => {
      await anna.request("POST", messages(), { content: "What is a budget?", reply: true });
      await socket.waitFor(({ type }) => type === "message.completed");
    });
    await socket.close();
  });
});

describe("no one receives another user's response:", () => {
  test("an outsider", async () => {
    await pair.readUntilHit(anna.account, "conversation", `/conversations/${id}`);
    await pair.readUntilHit(anna.account, "members", `/conversations/${id}/members`);
    await pair.readUntilHit(anna.account, "history", messages());
    await pair.readUntilHit(anna.account, "prompt", `/prompts/${prompt}`);
    for (const path of [`/conversations/${id}`, `/conversations/${id}/members`, messages(), `/prompts/${prompt}`])
      expect((await root.get(path)).status).toBe(404);
    expect((await root.get<{ data: unknown[] }>("/prompts")).body.data).toEqual([]);
    expect((await pair.cached.fetch(`/api/v1/conversations/${id}`)).status).toBe(401);
  });

  test("a removed member", async () => {
    await pair.readUntilHit(ben.account, "conversation", `/conversations/${id}`);
    await pair.readUntilHit(ben.account, "members", `/conversations/${id}/members`);
    await pair.readUntilHit(ben.account, "history", messages());
    await anna.request("DELETE", `/conversations/${id}/members/${ben.id}`);
    for (const path of [`/conversations/${id}`, `/conversations/${id}/members`, messages()])
      expect((await ben.get(path)).status).toBe(404);
    expect((await ben.get<{ data: unknown[] }>("/conversations")).body.data).toEqual([]);
  });

  test("members with other roles and read positions", async () => {
    await ask(anna, { type: "read", conversation_id: id, seq: message.seq });
    await send(ben, "And?");
    for (const [reader, role, unread] of [
      [anna, "owner", 1],
      [ben, "member", 0],
    ] as const) {
      await pair.readUntilHit(reader.account, "conversation", `/conversations/${id}`);
      expect((await reader.get<Conversation>(`/conversations/${id}`)).body).toMatchObject({ role, unread });
    }
  });

  test("a viewer who becomes a member and then a viewer again", async () => {
    for (const role of ["viewer", "member", "owner", "viewer"]) {
      await anna.request("POST", `/conversations/${id}/members`, { user_id: ben.id, role });
      expect((await ben.get<Conversation>(`/conversations/${id}`)).body.role).toBe(role as Conversation["role"]);
      const { status } = await ben.request("POST", messages(), { content: "May I?", reply: false });
      expect(status).toBe(role === "viewer" ? 403 : 201);
    }
  });

  test("users of one service key", async () => {
    const scopes = ["conversations:read", "messages:read"];
    const { key } = await createKey(pair.cached, root.account, { scopes, service: true });
    for (let times = 0; times < 2; times += 1) {
      for (const { id: userId } of [anna, ben])
        await pair.expectSame(key, ["/conversations", `/conversations/${id}`], { "x-on-behalf-of": userId });
      const own = await pair.cached.fetch("/api/v1/conversations", { token: key });
      expect(await own.text()).not.toContain(id);
      expect((await pair.cached.fetch(`/api/v1/conversations/${id}`, { token: key })).status).toBe(404);
    }
  });

  test("a key without the scope", async () => {
    const { key } = await createKey(pair.cached, anna.account, { scopes: ["messages:read"] });
    await pair.readUntilHit(anna.account, "conversations", "/conversations");
    expect((await pair.cached.fetch("/api/v1/conversations", { token: key })).status).toBe(403);
  });
});

describe("an ETag", () => {
  test("returns 304 as long as the state is the same, also for a list and a history", async () => {
    for (const path of paths()) {
      const etag = String((await anna.get(path)).headers.get("etag"));
      expect(etag).toMatch(/^"[^"]+"$/);
      expect((await anna.get(path, { "if-none-match": etag })).status).toBe(304);
    }
    const etag = String((await anna.get(messages())).headers.get("etag"));
    await send(ben, "News");
    const { status, body } = await anna.get<{ data: Message[] }>(messages(), { "if-none-match": etag });
    expect([status, body.data.at(-1)?.content]).toEqual([200, "News"]);
  });

  test("of one user's state is not valid for another's", async () => {
    const [ofAnna, ofBen] = [await anna.get(`/conversations/${id}`), await ben.get(`/conversations/${id}`)];
    const answer = await ben.get(`/conversations/${id}`, { "if-none-match": String(ofAnna.headers.get("etag")) });
    expect(answer.status).toBe(200);
    expect(answer.body).toEqual(ofBen.body);
  });
});

test("a list longer than its page follows conversations that move into it", async () => {
  const ids: string[] = [];
  for (let n = 0; n < 4; n += 1) ids.push((await createConversation(pair.cached, anna.account)).id);
  await pair.readUntilHit(anna.account, "conversations", "/conversations?limit=2");
  await send(ben, "Moves the oldest one up");
  const { body } = await anna.get<{ data: Conversation[] }>("/conversations?limit=2");
  expect(body.data.map((conversation) => conversation.id)).toEqual([id, String(ids.at(-1))]);
});
