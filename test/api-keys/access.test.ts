import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import OpenAI from "openai";
import { scopes } from "../../src/access/scopes.ts";
import { KEY_CACHE_MS } from "../../src/modules/api-keys/limits.ts";
import type { ApiKey } from "../../src/modules/api-keys/model.ts";
import { type Account, startApp, type TestApp } from "../support/app.ts";
import { createConversation } from "../support/conversation.ts";
import { openStream } from "../support/event-stream.ts";
import { type MockProvider, startMockProvider } from "../support/mock-provider/server.ts";
import { createRestClient } from "../support/rest.ts";
import { openSocket } from "../support/socket.ts";
import { advanceClock, resetClock } from "../support/test-clock.ts";
import { createKey } from "./create-key.ts";

let provider: MockProvider;
let parley: TestApp;
let anna: Account;
beforeAll(async () => {
  provider = startMockProvider();
  parley = await startApp({
    config: { OPENAI_API_KEY: "sk-test", OPENAI_BASE_URL: provider.openaiUrl, AI_MODELS: "openai/one" },
  });
  anna = await parley.register();
});
beforeEach(() => provider.reset());
afterEach(resetClock);
afterAll(async () => {
  await parley.stop();
  await provider.stop();
});

const getStatus = async (token: string, path = "/api/v1/me") => (await parley.fetch(path, { token })).status;
const encodeSubprotocol = (token: string) => `base64url.bearer.${Buffer.from(token).toString("base64url")}`;

describe("a key acts for its owner", () => {
  test("over REST, with either header", async () => {
    const { key } = await createKey(parley, anna);
    const authHeaders: Record<string, string>[] = [{ authorization: `Bearer ${key}` }, { "x-api-key": key }];
    for (const headers of authHeaders) {
      const response = await parley.fetch("/api/v1/me", { headers });
      expect(response.status).toBe(200);
      expect(await response.json()).toMatchObject({ id: anna.user.id });
    }
  });

  test("on an event stream", async () => {
    const { key } = await createKey(parley, anna);
    const { id } = await createConversation(parley, anna);
    const stream = await openStream(parley, `/conversations/${id}/events`, { headers: { "x-api-key": key } });
    await createRestClient(parley, anna).request("POST", `/conversations/${id}/messages`, { content: "hello" });
    expect((await stream.waitFor(({ type }) => type === "message.created")).frame.data?.content).toBe("hello");
    await stream.close();
  });

  test("on a socket, by header, subprotocol, ticket or first frame", async () => {
    const { key } = await createKey(parley, anna);
    const { ticket } = (await (await parley.fetch("/api/v1/auth/ticket", { token: key, method: "POST" })).json()) as {
      ticket: string;
    };
    const authOptions = [
      { token: key },
      { headers: { "x-api-key": key } },
      { protocols: ["parley.v1", encodeSubprotocol(key)] },
      { query: `?ticket=${ticket}` },
    ];
    for (const options of authOptions) {
      const socket = await openSocket(parley.url, options);
      expect((await socket.waitFor(({ type }) => type === "ready")).user).toMatchObject({ id: anna.user.id });
      expect(socket.socket.protocol).toBe("parley.v1");
      await socket.close();
    }
    await expect(openSocket(parley.url, { query: `?ticket=${ticket}` })).rejects.toThrow("closed during the handshake");

    const socket = await openSocket(parley.url);
    expect(await socket.request({ type: "auth", token: key })).toMatchObject({ type: "ack", expires_at: null });
    const expires_at = new Date(Date.now() + 60_000).toISOString();
    const expiringKey = await createKey(parley, anna, { expires_at });
    expect(await socket.request({ type: "auth", token: expiringKey.key })).toMatchObject({ type: "ack", expires_at });
    const otherUsersKey = await createKey(parley, await parley.register());
    expect(await socket.request({ type: "auth", token: otherUsersKey.key })).toMatchObject({ code: "forbidden" });
    await socket.close();
  });

  test("with the OpenAI SDK, with and without streaming", async () => {
    provider.script("one", { text: "Hello there." });
    const { key } = await createKey(parley, anna, { scopes: ["chat:completions"] });
    const client = new OpenAI({ baseURL: `${parley.url}/v1`, apiKey: key, maxRetries: 0 });
    const request = { model: "openai/one", messages: [{ role: "user" as const, content: "Hi" }] };
    const completion = await client.chat.completions.create(request);
    expect(completion.choices[0]?.message.content).toBe("Hello there.");
    let text = "";
    for await (const chunk of await client.chat.completions.create({ ...request, stream: true }))
      text += chunk.choices[0]?.delta.content ?? "";
    expect(text).toBe("Hello there.");
    expect((await client.models.list()).data.map(({ id }) => id)).toEqual(["openai/one"]);

    const { key: messagesKey } = await createKey(parley, anna, { scopes: ["messages:write"] });
    const forbiddenClient = new OpenAI({ baseURL: `${parley.url}/v1`, apiKey: messagesKey, maxRetries: 0 });
    await expect(forbiddenClient.chat.completions.create(request).asResponse()).rejects.toMatchObject({ status: 403 });
    const unknownClient = new OpenAI({ baseURL: `${parley.url}/v1`, apiKey: `${key.slice(0, -1)}!`, maxRetries: 0 });
    await expect(unknownClient.models.list().asResponse()).rejects.toMatchObject({ status: 401 });
  });
});

describe("scopes", () => {
  type Scope = (typeof scopes)[number];
  const scopeRequirements: [Scope, string, string, unknown][] = [
    ["conversations:read", "GET", "/conversations", undefined],
    ["conversations:write", "POST", "/conversations", { title: "by a key" }],
    ["messages:read", "GET", "/conversations/{id}/messages", undefined],
    ["messages:write", "POST", "/conversations/{id}/messages", { content: "by a key", reply: false }],
    ["users:read", "GET", "/me/preferences", undefined],
    ["users:write", "PATCH", "/me", { display_name: "By a key" }],
    ["admin", "GET", "/api-keys", undefined],
  ];

  test.each(scopeRequirements)("must include %s or admin for %s %s", async (requiredScope, method, path, json) => {
    const owner = await parley.register();
    await parley.database`update users set role = 'admin' where id = ${owner.user.id}`;
    const { id } = await createConversation(parley, owner);
    const fetchStatus = async (grantedScopes: readonly Scope[]) => {
      const { key } = await createKey(parley, owner, { scopes: grantedScopes });
      const rest = createRestClient(parley, { ...owner, access_token: key });
      return (await rest.request<{ code?: string }>(method, path.replace("{id}", id), json)).status;
    };
    expect(await fetchStatus(scopes.filter((scope) => scope !== requiredScope && scope !== "admin"))).toBe(403);
    expect(await fetchStatus([requiredScope])).toBeLessThan(300);
    expect(await fetchStatus(["admin"])).toBeLessThan(300);
  });

  test("never allow changing the email address", async () => {
    const owner = await parley.register();
    const { key } = await createKey(parley, owner, { scopes: ["users:write"] });
    const changeEmail = (token: string) =>
      parley.fetch("/api/v1/me", { method: "PATCH", token, json: { email: `new.${owner.user.email}` } });
    expect((await changeEmail(key)).status).toBe(403);
    expect((await changeEmail(owner.access_token)).status).toBe(200);
    const entries = await parley.database`
      select 1 from audit_events where action = 'user.changed' and target_id = ${owner.user.id}`;
    expect(entries).toHaveLength(1);
  });

  test("never allow routes that require a session", async () => {
    const owner = await parley.register();
    await parley.database`update users set role = 'admin' where id = ${owner.user.id}`;
    const { key } = await createKey(parley, owner, { scopes });
    const rest = createRestClient(parley, { ...owner, access_token: key });
    for (const [method, path, json] of [
      ["GET", "/me/sessions"],
      ["DELETE", "/me"],
      ["GET", "/me/export"],
      ["POST", "/me/password", { current_password: "x", new_password: "another good one" }],
    ] as const)
      expect((await rest.requestProblem(method, path, json)).code).toBe("forbidden");
  });

  test("apply to existing subscriptions when a socket switches to a different credential", async () => {
    const { id: conversation_id } = await createConversation(parley, anna);
    const socket = await openSocket(parley.url, { token: anna.access_token });
    expect(await socket.request({ type: "subscribe", conversation_id })).toMatchObject({ type: "ack" });
    const [writeKey, readKey] = await Promise.all(
      ["messages:write", "messages:read"].map((scope) => createKey(parley, anna, { scopes: [scope] })),
    );
    expect(await socket.request({ type: "auth", token: writeKey?.key })).toMatchObject({
      type: "error",
      code: "forbidden",
    });
    expect(await socket.request({ type: "auth", token: readKey?.key })).toMatchObject({ type: "ack" });
    await socket.close();
  });

  test("apply to socket frames", async () => {
    const { id: conversation_id } = await createConversation(parley, anna);
    const sendFrame = { type: "message.send", conversation_id, content: "x", client_message_id: "1", reply: false };
    const openSocketWithScopes = async (owner: Account, grantedScopes: Scope[]) =>
      openSocket(parley.url, { token: (await createKey(parley, owner, { scopes: grantedScopes })).key });

    const readSocket = await openSocketWithScopes(anna, ["messages:read"]);
    expect(await readSocket.request({ type: "subscribe", conversation_id })).toMatchObject({ type: "ack" });
    expect(await readSocket.request(sendFrame)).toMatchObject({ type: "error", code: "forbidden" });
    const writeSocket = await openSocketWithScopes(anna, ["messages:write"]);
    expect(await writeSocket.request({ type: "subscribe", conversation_id })).toMatchObject({ code: "forbidden" });
    expect(await writeSocket.request(sendFrame)).toMatchObject({ type: "ack", duplicate: false });
    expect((await readSocket.waitFor(({ type }) => type === "message.created")).data).toMatchObject({ content: "x" });

    const outsiderSocket = await openSocketWithScopes(await parley.register(), ["messages:read", "messages:write"]);
    expect(await outsiderSocket.request({ type: "subscribe", conversation_id })).toMatchObject({ code: "not_found" });
    expect(await outsiderSocket.request({ ...sendFrame, client_message_id: "2" })).toMatchObject({ code: "not_found" });
    // A ticket keeps the scopes of its key.
    const { key } = await createKey(parley, anna, { scopes: ["messages:read"] });
    const response = await parley.fetch("/api/v1/auth/ticket", { token: key, method: "POST" });
    const { ticket } = (await response.json()) as { ticket: string };
    const ticketSocket = await openSocket(parley.url, { query: `?ticket=${ticket}` });
    expect(await ticketSocket.request({ ...sendFrame, client_message_id: "3" })).toMatchObject({ code: "forbidden" });
    for (const socket of [readSocket, writeSocket, outsiderSocket, ticketSocket]) await socket.close();
  });

  test("don't allow administrator routes if the owner is no longer an administrator", async () => {
    const owner = await parley.register();
    await parley.database`update users set role = 'admin' where id = ${owner.user.id}`;
    const { key } = await createKey(parley, owner, { scopes: ["admin"] });
    await parley.database`update users set role = 'user' where id = ${owner.user.id}`;
    expect(await getStatus(key)).toBe(200);
    expect(await getStatus(key, "/api/v1/users")).toBe(403);
  });
});

describe("authentication fails with", () => {
  test("malformed, unknown and expired keys", async () => {
    const { id, key } = await createKey(parley, anna, { expires_at: new Date(Date.now() + 60_000).toISOString() });
    const invalidKey = key.slice(0, -1) + (key.endsWith("0") ? "1" : "0");
    for (const token of [invalidKey, "pk_", "pk_zQWBuTSOoRi4A9spHcVY5ncnsDkxkJ0mLq17"]) {
      expect(await getStatus(token)).toBe(401);
      expect((await parley.fetch("/api/v1/me", { headers: { "x-api-key": token } })).status).toBe(401);
      await expect(openSocket(parley.url, { token })).rejects.toThrow("closed during the handshake");
    }
    expect(await getStatus(key)).toBe(200);
    const { ticket } = (await (await parley.fetch("/api/v1/auth/ticket", { token: key, method: "POST" })).json()) as {
      ticket: string;
    };
    // The key is cached, but has expired.
    advanceClock(60_000);
    expect(await getStatus(key)).toBe(401);
    // The expiry of a ticket's key is checked by the database.
    resetClock();
    await parley.database`update api_keys set expires_at = now() where id = ${id}`;
    await expect(openSocket(parley.url, { query: `?ticket=${ticket}` })).rejects.toThrow("closed during the handshake");
    expect((await createRestClient(parley, anna).get(`/api-keys/${id}`)).status).toBe(200);
  });

  test("a disabled user's key, until the user is enabled again", async () => {
    const owner = await parley.register();
    const { key } = await createKey(parley, owner);
    await parley.database`update users set disabled_at = now() where id = ${owner.user.id}`;
    expect(await getStatus(key)).toBe(401);
    await parley.database`update users set disabled_at = null where id = ${owner.user.id}`;
    advanceClock(KEY_CACHE_MS);
    expect(await getStatus(key)).toBe(200);
  });
});

test("a key's last use is recorded at most once a minute", async () => {
  const { id, key } = await createKey(parley, anna);
  const fetchLastUse = async () =>
    (await createRestClient(parley, anna).get<ApiKey>(`/api-keys/${id}`)).body.last_used_at;
  expect(await fetchLastUse()).toBeNull();
  await getStatus(key);
  let firstUse: string | null = null;
  for (let attempts = 0; firstUse === null && attempts < 100; attempts += 1) {
    await Bun.sleep(20);
    firstUse = await fetchLastUse();
  }
  expect(Math.abs(Date.now() - Date.parse(firstUse ?? ""))).toBeLessThan(10_000);
  await Promise.all(Array.from({ length: 10 }, () => getStatus(key)));
  await Bun.sleep(100);
  expect(await fetchLastUse()).toBe(firstUse);
});
