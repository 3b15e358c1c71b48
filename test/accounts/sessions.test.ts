import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import { createId } from "../../src/lib/id.ts";
import { KEY_CACHE_MS } from "../../src/modules/api-keys/limits.ts";
import { IDENTITY_CACHE_MS } from "../../src/modules/auth/limits.ts";
import { type Account, startApp, TEST_PASSWORD, type TestApp } from "../support/app.ts";
import { advanceClock, resetClock } from "../support/clock.ts";
import { createConversation } from "../support/conversation.ts";
import { openStream } from "../support/event-stream.ts";
import { createTestDatabase } from "../support/postgres.ts";
import { createRest, type Rest } from "../support/rest.ts";
import { openSocket } from "../support/socket.ts";
import { type Administration, type AuditEvent, logIn, type Page, startAdministration } from "./start-administration.ts";

/** From the contract: any instance closes the sockets of a session ended elsewhere within this. */
const CLOSED_WITHIN_MS = 2_000;

let here: Administration;
let there: TestApp;
let shared: Awaited<ReturnType<typeof createTestDatabase>>;
let admin: Rest;
beforeAll(async () => {
  shared = await createTestDatabase();
  here = await startAdministration({ database: shared });
  there = await startApp({ database: shared });
  admin = here.admin;
});
afterEach(resetClock);
afterAll(async () => {
  await here.stop();
  await there.stop();
  await shared.database.end({ timeout: 1 });
});

const entriesOf = async (query: string) => (await admin.get<Page<AuditEvent>>(`/audit?${query}`)).body.data;

async function isRefused({ access_token, refresh_token }: Account): Promise<boolean> {
  // The other instance may cache a session for a second.
  const answers = await Promise.all([
    here.fetch("/api/v1/me", { token: access_token }),
    here.fetch("/api/v1/auth/refresh", { json: { refresh_token } }),
  ]);
  return answers.every(({ status }) => status === 401);
}

/** A user's sockets and live feeds on both instances, and a bystander's. */
async function connect(account: Account) {
  const bystander = await here.register();
  const { id } = await createConversation(here, account);
  const feed = await openStream(there, `/conversations/${id}/events`, { token: account.access_token });
  const sockets = [
    await openSocket(here.url, { token: account.access_token }),
    await openSocket(there.url, { token: account.access_token }),
  ];
  const stays = [
    await openSocket(here.url, { token: bystander.access_token }),
    await openSocket(there.url, { token: bystander.access_token }),
  ];
  return {
    sockets,
    /** Expects that everything is closed in time, except the bystander's connections. */
    async expectEnded(): Promise<void> {
      const startedAt = performance.now();
      const closed = await Promise.race([
        Promise.all([...sockets.map((socket) => socket.closed), feed.ended]),
        Bun.sleep(CLOSED_WITHIN_MS + 500).then(() => null),
      ]);
      expect(closed).not.toBeNull();
      expect(closed?.slice(0, 2)).toEqual([1, 2].map(() => expect.objectContaining({ code: 4506 })));
      expect(performance.now() - startedAt).toBeLessThan(CLOSED_WITHIN_MS);
      for (const { socket } of stays) expect(socket.readyState).toBe(WebSocket.OPEN);
      for (const socket of stays) await socket.close();
    },
  };
}

describe("disabling a user", () => {
  test("ends sessions, sockets and feeds on every instance, and blocks logins until it is undone", async () => {
    const account = await here.register();
    const connected = await connect(account);
    const { status, body } = await admin.request("PATCH", `/users/${account.user.id}`, { disabled: true });
    expect({ status, body }).toMatchObject({ status: 200, body: { disabled: true } });
    await connected.expectEnded();
    expect(await isRefused(account)).toBe(true);
    const login = () =>
      here.fetch("/api/v1/auth/login", { json: { email: account.user.email, password: TEST_PASSWORD } });
    expect((await login()).status).toBe(403);
    const [ended] = await here.database`select revoked_reason from sessions where user_id = ${account.user.id}`;
    expect(ended?.revoked_reason).toBe("user_disabled");

    await admin.request("PATCH", `/users/${account.user.id}`, { disabled: false });
    expect((await login()).status).toBe(200);
    // Ended sessions stay ended.
    expect(await isRefused(account)).toBe(true);
    const about = await entriesOf(`target_id=${account.user.id}&limit=5`);
    expect(about.map(({ action }) => action)).toEqual([
      "user.logged_in",
      "user.enabled",
      "user.login_failed",
      "user.disabled",
      "user.logged_in",
    ]);
    expect(about[2]?.details).toEqual({ reason: "disabled" });
  });

  test("by an SQL statement has the same effect on sockets", async () => {
    const account = await here.register();
    const connected = await connect(account);
    await here.database`update users set disabled_at = now() where id = ${account.user.id}`;
    await connected.expectEnded();
    advanceClock(IDENTITY_CACHE_MS);
    expect(await isRefused(account)).toBe(true);
  });

  test("disables the user's API keys too, and closes their sockets", async () => {
    const account = await here.register();
    const rest = createRest(here, account);
    const { body } = await rest.request<{ key: string }>("POST", "/api-keys", { name: "k", scopes: ["messages:read"] });
    const sockets = [await openSocket(here.url, { token: body.key }), await openSocket(there.url, { token: body.key })];
    await admin.request("PATCH", `/users/${account.user.id}`, { disabled: true });
    const closed = await Promise.race([
      Promise.all(sockets.map((socket) => socket.closed)),
      Bun.sleep(CLOSED_WITHIN_MS).then(() => null),
    ]);
    expect(closed?.map(({ code }) => code)).toEqual([4506, 4506]);
    // The other instance may cache a key for a second.
    advanceClock(KEY_CACHE_MS);
    for (const parley of [here, there])
      expect((await parley.fetch("/api/v1/me", { token: body.key })).status).toBe(401);
  });
});

test("an administrator ends all sessions of a user, who may log in again", async () => {
  const account = await here.register();
  const connected = await connect(account);
  expect((await admin.request("DELETE", `/users/${account.user.id}/sessions`)).status).toBe(204);
  await connected.expectEnded();
  expect(await isRefused(account)).toBe(true);
  await logIn(here, account.user.email);
  const [entry] = await entriesOf(`action=session.ended&target_id=${account.user.id}`);
  expect(entry).toMatchObject({ actor_id: admin.id, details: { reason: "ended", sessions: 1 } });
});

test("one request ends all other sessions; their sockets are closed on every instance", async () => {
  const current = await here.register();
  const other = await logIn(here, current.user.email);
  const connected = await connect(other);
  const kept = await openSocket(there.url, { token: current.access_token });
  expect((await createRest(here, current).request("DELETE", "/me/sessions")).status).toBe(204);
  await connected.expectEnded();
  expect(await isRefused(other)).toBe(true);
  expect(kept.socket.readyState).toBe(WebSocket.OPEN);
  await kept.close();
});

test("a deleted user's sockets and feeds are closed on every instance", async () => {
  const account = await here.register();
  const connected = await connect(account);
  expect((await admin.request("DELETE", `/users/${account.user.id}`)).status).toBe(204);
  await connected.expectEnded();
  expect(await isRefused(account)).toBe(true);
});

test("a role changed on another instance applies within a second", async () => {
  const account = await here.register();
  const rest = createRest(there, account);
  expect((await rest.get("/users")).status).toBe(403);
  await admin.request("PATCH", `/users/${account.user.id}`, { role: "admin" });
  advanceClock(IDENTITY_CACHE_MS);
  expect((await rest.get("/users")).status).toBe(200);
  await admin.request("PATCH", `/users/${account.user.id}`, { role: "user" });
  advanceClock(IDENTITY_CACHE_MS);
  expect((await rest.get(`/users/${createId()}`)).status).toBe(403);
});
