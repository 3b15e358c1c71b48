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
/** Creates a service key of `root`. */
let service: { id: string; key: string };
beforeAll(async () => {
  parley = await startApp();
  [root, anna] = await Promise.all([registerAdmin(parley), parley.register()]);
  const scopes = ["conversations:read", "conversations:write", "messages:read", "messages:write", "chat:completions"];
  service = await createKey(parley, root, { scopes, service: true });
});
afterAll(() => parley.stop());

const forUser = (id: string) => ({ "x-on-behalf-of": id });
const me = (token: string, headers: Record<string, string> = {}) => parley.fetch("/api/v1/me", { token, headers });

describe("a service key acts", () => {
  test("for its owner without the header, for the user with it", async () => {
    expect(await (await me(service.key)).json()).toMatchObject({ id: root.user.id });
    for (const id of [anna.user.id, anna.user.id.toUpperCase()])
      expect(await (await me(service.key, forUser(id))).json()).toMatchObject({ id: anna.user.id, role: "user" });
  });

  test("with the user's rights and its own scopes: resources hidden from the user are 404", async () => {
    const { id } = await createConversation(parley, root);
    const path = `/api/v1/conversations/${id}`;
    expect((await parley.fetch(path, { token: service.key })).status).toBe(200);
    expect((await parley.fetch(path, { token: service.key, headers: forUser(anna.user.id) })).status).toBe(404);
    const profile = {
      token: service.key,
      headers: forUser(anna.user.id),
      method: "PATCH",
      json: { display_name: "X" },
    };
    expect((await parley.fetch("/api/v1/me", profile)).status).toBe(403);
    const own = await parley.fetch("/api/v1/conversations", {
      token: service.key,
      headers: forUser(anna.user.id),
      json: { title: "Anna's" },
    });
    const made = (await own.json()) as { id: string };
    expect((await parley.fetch(`/api/v1/conversations/${made.id}`, { token: anna.access_token })).status).toBe(200);
    expect((await parley.fetch(`/api/v1/conversations/${made.id}`, { token: service.key })).status).toBe(404);
  });

  test("on streams, on OpenAI's routes, and on sockets by header and by frame", async () => {
    const { id } = await createConversation(parley, anna);
    const headers = { "x-api-key": service.key, ...forUser(anna.user.id) };
    const stream = await openStream(parley, `/conversations/${id}/events`, { headers });
    expect((await parley.fetch("/v1/models", { headers })).status).toBe(200);
    const socket = await openSocket(parley.url, { headers });
    expect((await socket.waitFor(({ type }) => type === "ready")).user).toMatchObject({ id: anna.user.id });
    const sent = await socket.request({
      ...{ type: "message.send", conversation_id: id, content: "for Anna", client_message_id: "1", reply: false },
    });
    expect(sent.message).toMatchObject({ author: { id: anna.user.id } });
    expect((await stream.waitFor(({ type }) => type === "message.created")).frame.data?.content).toBe("for Anna");
    const later = await openSocket(parley.url);
    const auth = { type: "auth", token: service.key, on_behalf_of: anna.user.id };
    expect(await later.request(auth)).toMatchObject({ type: "ack", expires_at: null });
    expect(later.list("ready")[0]?.user).toMatchObject({ id: anna.user.id });
    // A connection keeps its user.
    expect(await later.request({ type: "auth", token: service.key })).toMatchObject({ code: "forbidden" });
    expect(await later.request(auth)).toMatchObject({ type: "ack" });
    await Promise.all([stream.close(), socket.close(), later.close()]);
  });

  test("with a ticket too, which represents the key and the user", async () => {
    const made = await parley.fetch("/api/v1/auth/ticket", {
      ...{ token: service.key, method: "POST", headers: forUser(anna.user.id) },
    });
    const { ticket } = (await made.json()) as { ticket: string };
    const socket = await openSocket(parley.url, { query: `?ticket=${ticket}` });
    expect((await socket.waitFor(({ type }) => type === "ready")).user).toMatchObject({ id: anna.user.id });
    await socket.close();
  });

  test("and that is recorded once an hour per user", async () => {
    const [ben, key] = [await parley.register(), await createKey(parley, root, { service: true })];
    for (let n = 0; n < 3; n += 1) expect((await me(key.key, forUser(ben.user.id))).status).toBe(200);
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

describe("rejects, always with the same error", () => {
  test("administrators, disabled users, unknown users, and ids that are not a user's", async () => {
    const [other, disabled] = [await registerAdmin(parley), await parley.register()];
    await parley.database`update users set disabled_at = now() where id = ${disabled.user.id}`;
    const answers: unknown[] = [];
    for (const id of [other.user.id, root.user.id, disabled.user.id, createId(), "anna", ""]) {
      const refused = await me(service.key, forUser(id));
      expect(refused.status).toBe(403);
      const { code, detail, title } = (await refused.json()) as Record<string, unknown>;
      answers.push({ code, detail, title });
    }
    expect(new Set(answers.map((answer) => JSON.stringify(answer))).size).toBe(1);
    expect(answers[0]).toMatchObject({ code: "forbidden" });
  });

  test("ordinary keys, also an administrator's, and the key's own owner", async () => {
    const key = await createKey(parley, root, { scopes: ["admin"] });
    const own = await createKey(parley, anna);
    expect((await me(key.key, forUser(anna.user.id))).status).toBe(403);
    expect((await me(own.key, forUser(anna.user.id))).status).toBe(403);
  });

  test("sessions, also for their own user; an invalid credential is still 401", async () => {
    for (const { access_token } of [root, anna])
      expect((await me(access_token, forUser(anna.user.id))).status).toBe(403);
    expect((await me("nonsense", forUser(anna.user.id))).status).toBe(401);
    const unknown = "pk_zQWBuTSOoRi4A9spHcVY5ncnsDkxkJ0mLq17";
    expect((await me(unknown, forUser(anna.user.id))).status).toBe(401);
  });

  test("sockets: 403 at the upgrade, 4503 after a first frame, and a malformed id is an invalid frame", async () => {
    const headers = { "x-api-key": service.key, ...forUser(root.user.id) };
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
    expect(await socket.request({ type: "auth", token: service.key, on_behalf_of: "anna" })).toMatchObject({
      code: "invalid",
    });
    socket.send({ type: "auth", token: service.key, on_behalf_of: root.user.id });
    expect((await socket.closed).code).toBe(4503);
    // Without a key in the same request, the header would be ignored.
    await expect(openSocket(parley.url, { headers: forUser(anna.user.id) })).rejects.toThrow("refused");
    const session = await openSocket(parley.url);
    session.send({ type: "auth", token: root.access_token, on_behalf_of: anna.user.id });
    expect((await session.closed).code).toBe(4503);
  });

  test("a ticket requested for another user", async () => {
    const made = await parley.fetch("/api/v1/auth/ticket", { token: service.key, method: "POST" });
    const { ticket } = (await made.json()) as { ticket: string };
    const opened = openSocket(parley.url, { query: `?ticket=${ticket}`, headers: forUser(anna.user.id) });
    await expect(opened).rejects.toThrow("refused");
  });
});

test("allows browsers of other origins to send the header", async () => {
  const app = await startApp({ config: { CORS_ORIGINS: "https://app.example.com" } });
  const response = await app.fetch("/api/v1/me", {
    method: "OPTIONS",
    headers: { origin: "https://app.example.com", "access-control-request-method": "GET" },
  });
  expect(response.headers.get("access-control-allow-headers")).toContain("X-On-Behalf-Of");
  await app.stop();
});
