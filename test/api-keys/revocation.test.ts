import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import { KEY_CACHE_MS } from "../../src/modules/api-keys/limits.ts";
import { type Account, startApp, TEST_PASSWORD, type TestApp } from "../support/app.ts";
import { advanceClock, resetClock } from "../support/clock.ts";
import { createConversation } from "../support/conversation.ts";
import { openStream } from "../support/event-stream.ts";
import { createTestDatabase } from "../support/postgres.ts";
import { createRest } from "../support/rest.ts";
import { openSocket } from "../support/socket.ts";
import { createKey, registerAdmin } from "./create-key.ts";

/** From the contract, on every instance. */
const CLOSED_WITHIN_MS = 2_000;

let here: TestApp;
let there: TestApp;
let root: Account;
beforeAll(async () => {
  const database = await createTestDatabase(20);
  [here, there] = await Promise.all([startApp({ database }), startApp({ database })]);
  root = await registerAdmin(here);
});
afterEach(resetClock);
afterAll(async () => {
  await Promise.all([here.stop(), there.stop()]);
  await here.database.end({ timeout: 1 });
});

type Connections = {
  waitUntilClosed: () => Promise<{ codes: number[]; tookMs: number }>;
  areOpen: () => Promise<boolean>;
};

/** Opens a socket and a stream with a key on each instance. */
async function openConnections(owner: Account, key: string, onBehalfOf?: Account): Promise<Connections> {
  const { id } = await createConversation(here, onBehalfOf ?? owner);
  const headers = { "x-api-key": key, ...(onBehalfOf && { "x-on-behalf-of": onBehalfOf.user.id }) };
  const sockets = await Promise.all([here, there].map(({ url }) => openSocket(url, { headers })));
  const streams = await Promise.all(
    [here, there].map((parley) => openStream(parley, `/conversations/${id}/events`, { headers })),
  );
  let openStreams = streams.length;
  for (const stream of streams) void stream.ended.then(() => (openStreams -= 1));
  return {
    async waitUntilClosed() {
      const fromMs = performance.now();
      const closed = Promise.all(sockets.map(async (socket) => (await socket.closed).code));
      const all = Promise.all([closed, ...streams.map(({ ended }) => ended)]);
      const codes = await Promise.race([all.then(([codes]) => codes), Bun.sleep(10_000).then(() => [])]);
      return { codes, tookMs: performance.now() - fromMs };
    },
    async areOpen() {
      const pongs = await Promise.all(
        sockets.map(async ({ socket, send, waitFor }) => {
          if (socket.readyState !== WebSocket.OPEN) return false;
          send({ type: "ping", id: "still" });
          return (await waitFor(({ type }) => type === "pong")).id === "still";
        }),
      );
      const areOpen = pongs.every(Boolean) && openStreams === streams.length;
      await Promise.all([...sockets.map((socket) => socket.close()), ...streams.map((stream) => stream.close())]);
      return areOpen;
    },
  };
}

async function expectClosed({ waitUntilClosed }: Connections, code: number): Promise<void> {
  const { codes, tookMs } = await waitUntilClosed();
  expect(codes).toEqual([code, code]);
  expect(tookMs).toBeLessThan(CLOSED_WITHIN_MS);
}

describe("sockets and streams of a key are closed on both instances within 2 s", () => {
  test("when it is deleted; other keys' and sessions' stay open", async () => {
    const anna = await here.register();
    const [first, second] = [await createKey(here, anna), await createKey(here, anna)];
    const held = await openConnections(anna, first.key);
    const others = await openConnections(anna, second.key);
    const session = await openSocket(there.url, { token: anna.access_token });
    expect((await createRest(here, anna).request("DELETE", `/api-keys/${first.id}`)).status).toBe(204);
    await expectClosed(held, 4506);
    for (const { url } of [here, there]) {
      advanceClock(KEY_CACHE_MS);
      await expect(openSocket(url, { token: first.key })).rejects.toThrow("refused");
    }
    expect(await others.areOpen()).toBe(true);
    await session.close();
  }, 20_000);

  test("when an administrator disables its owner, whose requests are rejected immediately", async () => {
    const anna = await here.register();
    const { key } = await createKey(here, anna);
    const held = await openConnections(anna, key);
    const disabled = await createRest(here, root).request("PATCH", `/users/${anna.user.id}`, { disabled: true });
    expect(disabled.status).toBe(200);
    expect((await here.fetch("/api/v1/me", { token: key })).status).toBe(401);
    await expectClosed(held, 4506);
  }, 20_000);

  test("when its owner deletes the account, which deletes the key", async () => {
    const anna = await here.register();
    const { id, key } = await createKey(here, anna);
    const held = await openConnections(anna, key);
    const deleted = await createRest(here, anna).request("DELETE", "/me", { current_password: TEST_PASSWORD });
    expect(deleted.status).toBe(204);
    expect((await here.fetch("/api/v1/me", { token: key })).status).toBe(401);
    await expectClosed(held, 4506);
    expect(await here.database`select 1 from api_keys where id = ${id}`).toHaveLength(0);
  }, 20_000);

  test("when it expires: its sockets with 4006", async () => {
    const anna = await here.register();
    const expires_at = new Date(Date.now() + 2_500).toISOString();
    const { key } = await createKey(here, anna, { expires_at });
    const held = await openConnections(anna, key);
    const { codes } = await held.waitUntilClosed();
    expect(codes).toEqual([4006, 4006]);
    expect(Date.now() - Date.parse(expires_at)).toBeLessThan(CLOSED_WITHIN_MS);
  }, 20_000);

  test("when the user it acts for is disabled, or becomes an administrator; its own stay open", async () => {
    const { key } = await createKey(here, root, { service: true });
    const [anna, ben] = [await here.register(), await here.register()];
    const [own, forAnna, forBen] = [
      await openConnections(root, key),
      await openConnections(root, key, anna),
      await openConnections(root, key, ben),
    ];
    await here.database`update users set disabled_at = now() where id = ${anna.user.id}`;
    await expectClosed(forAnna, 4506);
    await here.database`update users set role = 'admin' where id = ${ben.user.id}`;
    await expectClosed(forBen, 4506);
    expect(await own.areOpen()).toBe(true);
  }, 20_000);

  test("when a service key's owner is no longer an administrator: those it opened for other users", async () => {
    const former = await registerAdmin(here);
    const { key } = await createKey(here, former, { service: true });
    const anna = await here.register();
    const [own, forAnna] = [await openConnections(former, key), await openConnections(former, key, anna)];
    await here.database`update users set role = 'user' where id = ${former.user.id}`;
    await expectClosed(forAnna, 4506);
    expect(await own.areOpen()).toBe(true);
    advanceClock(KEY_CACHE_MS);
    const answer = await here.fetch("/api/v1/me", { token: key, headers: { "x-on-behalf-of": anna.user.id } });
    expect(answer.status).toBe(403);
  }, 20_000);
});
