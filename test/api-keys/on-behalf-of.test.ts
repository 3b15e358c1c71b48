import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { createId } from "../../src/lib/id.ts";
import { type Account, startApp, type TestApp } from "../support/app.ts";
import { createConversation } from "../support/conversation.ts";
import { openStream } from "../support/event-stream.ts";
import { openSocket } from "../support/socket.ts";
import { createKey, registerAdmin } from "./create-key.ts";

let parley: TestApp;
let root: Account;
let anna: Account;
/** A service key that belongs to `root`. */
let serviceKey: { id: string; key: string };
beforeAll(async () => {
  parley = await startApp();
  [root, anna] = await Promise.all([registerAdmin(parley), parley.register()]);
  const scopes = ["conversations:read", "conversations:write", "messages:read", "messages:write", "chat:completions"];
  serviceKey = await createKey(parley, root, { scopes, service: true });
});
afterAll(() => parley.stop());

const createHeader = (id: string) => ({ "x-on-behalf-of": id });
const fetchMe = (token: string, headers: Record<string, string> = {}) => parley.fetch("/api/v1/me", { token, headers });

describe("a service key acts", () => {
  test("for the user in the header, otherwise for its owner", async () => {
    expect(await (await fetchMe(serviceKey.key)).json()).toMatchObject({ id: root.user.id });
    for (const id of [anna.user.id, anna.user.id.toUpperCase()])
      expect(await (await fetchMe(serviceKey.key, createHeader(id))).json()).toMatchObject({
        id: anna.user.id,
        role: "user",
      });
  });

  test("with the user's permissions and its own scopes", async () => {
    const { id } = await createConversation(parley, root);
    const path = `/api/v1/conversations/${id}`;
    expect((await parley.fetch(path, { token: serviceKey.key })).status).toBe(200);
    expect((await parley.fetch(path, { token: serviceKey.key, headers: createHeader(anna.user.id) })).status).toBe(404);
    const profileChange = {
      token: serviceKey.key,
      headers: createHeader(anna.user.id),
      method: "PATCH",
      json: { display_name: "X" },
    };
    expect((await parley.fetch("/api/v1/me", profileChange)).status).toBe(403);
    const creationResponse = await parley.fetch("/api/v1/conversations", {
      token: serviceKey.key,
      headers: createHeader(anna.user.id),
      json: { title: "Anna's" },
    });
    const conversation = (await creationResponse.json()) as { id: string };
    expect((await parley.fetch(`/api/v1/conversations/${conversation.id}`, { token: anna.access_token })).status).toBe(
      200,
    );
    expect((await parley.fetch(`/api/v1/conversations/${conversation.id}`, { token: serviceKey.key })).status).toBe(
      404,
    );
  });

  test("on streams, OpenAI-compatible routes and sockets", async () => {
    const { id } = await createConversation(parley, anna);
    const headers = { "x-api-key": serviceKey.key, ...createHeader(anna.user.id) };
    const stream = await openStream(parley, `/conversations/${id}/events`, { headers });
    expect((await parley.fetch("/v1/models", { headers })).status).toBe(200);
    const socket = await openSocket(parley.url, { headers });
    expect((await socket.waitFor(({ type }) => type === "ready")).user).toMatchObject({ id: anna.user.id });
    const ack = await socket.request({
      ...{ type: "message.send", conversation_id: id, content: "for Anna", client_message_id: "1", reply: false },
    });
    expect(ack.message).toMatchObject({ author: { id: anna.user.id } });
    expect((await stream.waitFor(({ type }) => type === "message.created")).frame.data?.content).toBe("for Anna");
    const secondSocket = await openSocket(parley.url);
    const authFrame = { type: "auth", token: serviceKey.key, on_behalf_of: anna.user.id };
    expect(await secondSocket.request(authFrame)).toMatchObject({ type: "ack", expires_at: null });
    expect(secondSocket.list("ready")[0]?.user).toMatchObject({ id: anna.user.id });
    // An open connection keeps acting for the user that it was opened for.
    expect(await secondSocket.request({ type: "auth", token: serviceKey.key })).toMatchObject({ code: "forbidden" });
    expect(await secondSocket.request(authFrame)).toMatchObject({ type: "ack" });
    await Promise.all([stream.close(), socket.close(), secondSocket.close()]);
  });

  test("on a socket opened with a ticket that was created for the user", async () => {
    const ticketResponse = await parley.fetch("/api/v1/auth/ticket", {
      ...{ token: serviceKey.key, method: "POST", headers: createHeader(anna.user.id) },
    });
    const { ticket } = (await ticketResponse.json()) as { ticket: string };
    const socket = await openSocket(parley.url, { query: `?ticket=${ticket}` });
    expect((await socket.waitFor(({ type }) => type === "ready")).user).toMatchObject({ id: anna.user.id });
    await socket.close();
  });

  test("with at most one audit log entry per user per hour", async () => {
    const [ben, key] = [await parley.register(), await createKey(parley, root, { service: true })];
    for (let n = 0; n < 3; n += 1) expect((await fetchMe(key.key, createHeader(ben.user.id))).status).toBe(200);
    await Bun.sleep(200);
    const rows = await parley.database`
      select actor_id, credential_id, target_type, target_id, ip_address from audit_events
      where action = 'api_key.acted_for' and credential_id = ${key.id}`;
    expect([...rows] as unknown[]).toEqual([
      {
        actor_id: root.user.id,
        credential_id: key.id,
        target_type: "user",
        target_id: ben.user.id,
        ip_address: "127.0.0.1",
      },
    ]);
  });
});

describe("acting for another user is rejected", () => {
  test("with the same error for administrators, disabled users and unknown ids", async () => {
    const [otherAdmin, disabledUser] = [await registerAdmin(parley), await parley.register()];
    await parley.database`update users set disabled_at = now() where id = ${disabledUser.user.id}`;
    const problems: unknown[] = [];
    for (const id of [otherAdmin.user.id, root.user.id, disabledUser.user.id, createId(), "anna", ""]) {
      const response = await fetchMe(serviceKey.key, createHeader(id));
      expect(response.status).toBe(403);
      const { code, detail, title } = (await response.json()) as Record<string, unknown>;
      problems.push({ code, detail, title });
    }
    expect(new Set(problems.map((problem) => JSON.stringify(problem))).size).toBe(1);
    expect(problems[0]).toMatchObject({ code: "forbidden" });
  });

  test("with an ordinary key, even an administrator's", async () => {
    const key = await createKey(parley, root, { scopes: ["admin"] });
    const userKey = await createKey(parley, anna);
    expect((await fetchMe(key.key, createHeader(anna.user.id))).status).toBe(403);
    expect((await fetchMe(userKey.key, createHeader(anna.user.id))).status).toBe(403);
  });

  test("with 403 for a session, and with 401 for an invalid credential", async () => {
    for (const { access_token } of [root, anna])
      expect((await fetchMe(access_token, createHeader(anna.user.id))).status).toBe(403);
    expect((await fetchMe("nonsense", createHeader(anna.user.id))).status).toBe(401);
    const unknownKey = "pk_zQWBuTSOoRi4A9spHcVY5ncnsDkxkJ0mLq17";
    expect((await fetchMe(unknownKey, createHeader(anna.user.id))).status).toBe(401);
  });

  test("on sockets, with status 403 for the upgrade or close code 4503 after an auth frame", async () => {
    const headers = { "x-api-key": serviceKey.key, ...createHeader(root.user.id) };
    const response = await parley.fetch("/realtime", {
      headers: {
        ...headers,
        connection: "Upgrade",
        upgrade: "websocket",
        "sec-websocket-version": "13",
        "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
      },
    });
    expect(response.status).toBe(403);
    const socket = await openSocket(parley.url);
    expect(await socket.request({ type: "auth", token: serviceKey.key, on_behalf_of: "anna" })).toMatchObject({
      code: "invalid",
    });
    socket.send({ type: "auth", token: serviceKey.key, on_behalf_of: root.user.id });
    expect((await socket.closed).code).toBe(4503);
    // The header requires a key in the same request.
    await expect(openSocket(parley.url, { headers: createHeader(anna.user.id) })).rejects.toThrow(
      "closed during the handshake",
    );
    const sessionSocket = await openSocket(parley.url);
    sessionSocket.send({ type: "auth", token: root.access_token, on_behalf_of: anna.user.id });
    expect((await sessionSocket.closed).code).toBe(4503);
  });

  test("with a ticket that was created for another user", async () => {
    const ticketResponse = await parley.fetch("/api/v1/auth/ticket", { token: serviceKey.key, method: "POST" });
    const { ticket } = (await ticketResponse.json()) as { ticket: string };
    const pendingSocket = openSocket(parley.url, { query: `?ticket=${ticket}`, headers: createHeader(anna.user.id) });
    await expect(pendingSocket).rejects.toThrow("closed during the handshake");
  });
});

test("browsers at allowed origins can send the X-On-Behalf-Of header", async () => {
  const app = await startApp({ config: { CORS_ORIGINS: "https://app.example.com" } });
  const response = await app.fetch("/api/v1/me", {
    method: "OPTIONS",
    headers: { origin: "https://app.example.com", "access-control-request-method": "GET" },
  });
  expect(response.headers.get("access-control-allow-headers")).toContain("X-On-Behalf-Of");
  await app.stop();
});
