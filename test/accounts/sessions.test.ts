import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import { createId } from "../../src/lib/id.ts";
import { KEY_CACHE_MS } from "../../src/modules/api-keys/limits.ts";
import { IDENTITY_CACHE_MS } from "../../src/modules/auth/limits.ts";
import { type Account, startApp, TEST_PASSWORD, type TestApp } from "../support/app.ts";
import { createConversation } from "../support/conversation.ts";
import { openStream } from "../support/event-stream.ts";
import { createTestDatabase } from "../support/postgres.ts";
import { createRestClient, type RestClient } from "../support/rest.ts";
import { openSocket } from "../support/socket.ts";
import { advanceClock, resetClock } from "../support/test-clock.ts";
import { type Administration, type AuditEvent, logIn, type Page, startAdministration } from "./start-administration.ts";

/** The documented maximum time in which every instance closes the sockets of a revoked session. */
const CLOSE_DELAY_MS_MAX = 2_000;

let instance: Administration;
let otherInstance: TestApp;
let sharedDatabase: Awaited<ReturnType<typeof createTestDatabase>>;
let admin: RestClient;
beforeAll(async () => {
  sharedDatabase = await createTestDatabase();
  instance = await startAdministration({ database: sharedDatabase });
  otherInstance = await startApp({ database: sharedDatabase });
  admin = instance.admin;
});
afterEach(resetClock);
afterAll(async () => {
  await instance.stop();
  await otherInstance.stop();
  await sharedDatabase.database.end({ timeout: 1 });
});

const listAuditEntries = async (query: string) => (await admin.get<Page<AuditEvent>>(`/audit?${query}`)).body.data;

async function isRevoked({ access_token, refresh_token }: Account): Promise<boolean> {
  // The other instance may cache a session for a second.
  const responses = await Promise.all([
    instance.fetch("/api/v1/me", { token: access_token }),
    instance.fetch("/api/v1/auth/refresh", { json: { refresh_token } }),
  ]);
  return responses.every(({ status }) => status === 401);
}

/** Opens an event feed for a user, and sockets on both instances for this user and for another user. */
async function openConnections(account: Account) {
  const otherUser = await instance.register();
  const { id } = await createConversation(instance, account);
  const feed = await openStream(otherInstance, `/conversations/${id}/events`, { token: account.access_token });
  const sockets = [
    await openSocket(instance.url, { token: account.access_token }),
    await openSocket(otherInstance.url, { token: account.access_token }),
  ];
  const otherSockets = [
    await openSocket(instance.url, { token: otherUser.access_token }),
    await openSocket(otherInstance.url, { token: otherUser.access_token }),
  ];
  return {
    sockets,
    /** Expects the user's connections to close within the documented time, and the other user's to stay open. */
    async expectClosed(): Promise<void> {
      const startedAtMs = performance.now();
      const closeEvents = await Promise.race([
        Promise.all([...sockets.map((socket) => socket.closed), feed.closed]),
        Bun.sleep(CLOSE_DELAY_MS_MAX + 500).then(() => null),
      ]);
      expect(closeEvents).not.toBeNull();
      expect(closeEvents?.slice(0, 2)).toEqual([1, 2].map(() => expect.objectContaining({ code: 4506 })));
      expect(performance.now() - startedAtMs).toBeLessThan(CLOSE_DELAY_MS_MAX);
      for (const { socket } of otherSockets) expect(socket.readyState).toBe(WebSocket.OPEN);
      for (const socket of otherSockets) await socket.close();
    },
  };
}

describe("disabling a user", () => {
  test("revokes sessions, closes sockets and feeds on every instance, and blocks logins until the user is enabled", async () => {
    const account = await instance.register();
    const connections = await openConnections(account);
    const { status, body } = await admin.request("PATCH", `/users/${account.user.id}`, { disabled: true });
    expect({ status, body }).toMatchObject({ status: 200, body: { disabled: true } });
    await connections.expectClosed();
    expect(await isRevoked(account)).toBe(true);
    const tryLogin = () =>
      instance.fetch("/api/v1/auth/login", { json: { email: account.user.email, password: TEST_PASSWORD } });
    expect((await tryLogin()).status).toBe(403);
    const [session] = await instance.database`select revoked_reason from sessions where user_id = ${account.user.id}`;
    expect(session?.revoked_reason).toBe("user_disabled");

    await admin.request("PATCH", `/users/${account.user.id}`, { disabled: false });
    expect((await tryLogin()).status).toBe(200);
    // Revoked sessions stay revoked.
    expect(await isRevoked(account)).toBe(true);
    const entries = await listAuditEntries(`target_id=${account.user.id}&limit=5`);
    expect(entries.map(({ action }) => action)).toEqual([
      "user.logged_in",
      "user.enabled",
      "user.login_failed",
      "user.disabled",
      "user.logged_in",
    ]);
    expect(entries[2]?.details).toEqual({ reason: "disabled" });
  });

  test("closes sockets and feeds even if it is done with an SQL statement", async () => {
    const account = await instance.register();
    const connections = await openConnections(account);
    await instance.database`update users set disabled_at = now() where id = ${account.user.id}`;
    await connections.expectClosed();
    advanceClock(IDENTITY_CACHE_MS);
    expect(await isRevoked(account)).toBe(true);
  });

  test("also disables the user's API keys and closes their sockets", async () => {
    const account = await instance.register();
    const rest = createRestClient(instance, account);
    const { body } = await rest.request<{ key: string }>("POST", "/api-keys", { name: "k", scopes: ["messages:read"] });
    const sockets = [
      await openSocket(instance.url, { token: body.key }),
      await openSocket(otherInstance.url, { token: body.key }),
    ];
    await admin.request("PATCH", `/users/${account.user.id}`, { disabled: true });
    const closeEvents = await Promise.race([
      Promise.all(sockets.map((socket) => socket.closed)),
      Bun.sleep(CLOSE_DELAY_MS_MAX).then(() => null),
    ]);
    expect(closeEvents?.map(({ code }) => code)).toEqual([4506, 4506]);
    // The other instance may cache a key for a second.
    advanceClock(KEY_CACHE_MS);
    for (const parley of [instance, otherInstance])
      expect((await parley.fetch("/api/v1/me", { token: body.key })).status).toBe(401);
  });
});

test("an administrator can revoke all sessions of a user, who can log in again", async () => {
  const account = await instance.register();
  const connections = await openConnections(account);
  expect((await admin.request("DELETE", `/users/${account.user.id}/sessions`)).status).toBe(204);
  await connections.expectClosed();
  expect(await isRevoked(account)).toBe(true);
  await logIn(instance, account.user.email);
  const [entry] = await listAuditEntries(`action=session.ended&target_id=${account.user.id}`);
  expect(entry).toMatchObject({ actor_id: admin.id, details: { reason: "ended", sessions: 1 } });
});

test("a user can revoke all their other sessions, whose sockets every instance closes", async () => {
  const currentSession = await instance.register();
  const otherSession = await logIn(instance, currentSession.user.email);
  const connections = await openConnections(otherSession);
  const currentSocket = await openSocket(otherInstance.url, { token: currentSession.access_token });
  expect((await createRestClient(instance, currentSession).request("DELETE", "/me/sessions")).status).toBe(204);
  await connections.expectClosed();
  expect(await isRevoked(otherSession)).toBe(true);
  expect(currentSocket.socket.readyState).toBe(WebSocket.OPEN);
  await currentSocket.close();
});

test("a deleted user's sockets and feeds are closed on every instance", async () => {
  const account = await instance.register();
  const connections = await openConnections(account);
  expect((await admin.request("DELETE", `/users/${account.user.id}`)).status).toBe(204);
  await connections.expectClosed();
  expect(await isRevoked(account)).toBe(true);
});

test("a role changed on another instance applies within a second", async () => {
  const account = await instance.register();
  const rest = createRestClient(otherInstance, account);
  expect((await rest.get("/users")).status).toBe(403);
  await admin.request("PATCH", `/users/${account.user.id}`, { role: "admin" });
  advanceClock(IDENTITY_CACHE_MS);
  expect((await rest.get("/users")).status).toBe(200);
  await admin.request("PATCH", `/users/${account.user.id}`, { role: "user" });
  advanceClock(IDENTITY_CACHE_MS);
  expect((await rest.get(`/users/${createId()}`)).status).toBe(403);
});
