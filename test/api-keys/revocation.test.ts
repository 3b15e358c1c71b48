import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import { KEY_CACHE_MS } from "../../src/modules/api-keys/limits.ts";
import { type Account, startApp, TEST_PASSWORD, type TestApp } from "../support/app.ts";
import { createConversation } from "../support/conversation.ts";
import { openStream } from "../support/event-stream.ts";
import { createTestDatabase } from "../support/postgres.ts";
import { createRestClient } from "../support/rest.ts";
import { openSocket } from "../support/socket.ts";
import { advanceClock, resetClock } from "../support/test-clock.ts";
import { createKey, registerAdmin } from "./create-key.ts";

/** The documented maximum time within which every instance closes a revoked key's connections. */
const CLOSE_DELAY_MS_MAX = 2_000;

let instance: TestApp;
let otherInstance: TestApp;
let root: Account;
beforeAll(async () => {
  const database = await createTestDatabase(20);
  [instance, otherInstance] = await Promise.all([startApp({ database }), startApp({ database })]);
  root = await registerAdmin(instance);
});
afterEach(resetClock);
afterAll(async () => {
  await Promise.all([instance.stop(), otherInstance.stop()]);
  await instance.database.end({ timeout: 1 });
});

type Connections = {
  waitUntilClosed: () => Promise<{ codes: number[]; durationMs: number }>;
  /** Returns whether all connections are open, then closes them. */
  closeAndReportOpen: () => Promise<boolean>;
};

/** Opens a socket and a stream with a key on each instance. */
async function openConnections(owner: Account, key: string, onBehalfOf?: Account): Promise<Connections> {
  const { id } = await createConversation(instance, onBehalfOf ?? owner);
  const headers = { "x-api-key": key, ...(onBehalfOf && { "x-on-behalf-of": onBehalfOf.user.id }) };
  const sockets = await Promise.all([instance, otherInstance].map(({ url }) => openSocket(url, { headers })));
  const streams = await Promise.all(
    [instance, otherInstance].map((parley) => openStream(parley, `/conversations/${id}/events`, { headers })),
  );
  let openStreams = streams.length;
  for (const stream of streams) void stream.closed.then(() => (openStreams -= 1));
  return {
    async waitUntilClosed() {
      const startedAtMs = performance.now();
      const closeCodes = Promise.all(sockets.map(async (socket) => (await socket.closed).code));
      const allClosed = Promise.all([closeCodes, ...streams.map((stream) => stream.closed)]);
      const codes = await Promise.race([
        allClosed.then(([receivedCodes]) => receivedCodes),
        Bun.sleep(10_000).then(() => []),
      ]);
      return { codes, durationMs: performance.now() - startedAtMs };
    },
    async closeAndReportOpen() {
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
  const { codes, durationMs } = await waitUntilClosed();
  expect(codes).toEqual([code, code]);
  expect(durationMs).toBeLessThan(CLOSE_DELAY_MS_MAX);
}

describe("a key's sockets and streams are closed on both instances within 2 s", () => {
  test("when the key is deleted, but the connections of other keys and sessions stay open", async () => {
    const anna = await instance.register();
    const [firstKey, secondKey] = [await createKey(instance, anna), await createKey(instance, anna)];
    const connections = await openConnections(anna, firstKey.key);
    const otherConnections = await openConnections(anna, secondKey.key);
    const sessionSocket = await openSocket(otherInstance.url, { token: anna.access_token });
    expect((await createRestClient(instance, anna).request("DELETE", `/api-keys/${firstKey.id}`)).status).toBe(204);
    await expectClosed(connections, 4506);
    for (const { url } of [instance, otherInstance]) {
      advanceClock(KEY_CACHE_MS);
      await expect(openSocket(url, { token: firstKey.key })).rejects.toThrow("closed during the handshake");
    }
    expect(await otherConnections.closeAndReportOpen()).toBe(true);
    await sessionSocket.close();
  }, 20_000);

  test("when an administrator disables the owner", async () => {
    const anna = await instance.register();
    const { key } = await createKey(instance, anna);
    const connections = await openConnections(anna, key);
    const response = await createRestClient(instance, root).request("PATCH", `/users/${anna.user.id}`, {
      disabled: true,
    });
    expect(response.status).toBe(200);
    expect((await instance.fetch("/api/v1/me", { token: key })).status).toBe(401);
    await expectClosed(connections, 4506);
  }, 20_000);

  test("when the owner deletes the account", async () => {
    const anna = await instance.register();
    const { id, key } = await createKey(instance, anna);
    const connections = await openConnections(anna, key);
    const response = await createRestClient(instance, anna).request("DELETE", "/me", {
      current_password: TEST_PASSWORD,
    });
    expect(response.status).toBe(204);
    expect((await instance.fetch("/api/v1/me", { token: key })).status).toBe(401);
    await expectClosed(connections, 4506);
    expect(await instance.database`select 1 from api_keys where id = ${id}`).toHaveLength(0);
  }, 20_000);

  test("when the key expires", async () => {
    const anna = await instance.register();
    const expires_at = new Date(Date.now() + 2_500).toISOString();
    const { key } = await createKey(instance, anna, { expires_at });
    const connections = await openConnections(anna, key);
    const { codes } = await connections.waitUntilClosed();
    expect(codes).toEqual([4006, 4006]);
    expect(Date.now() - Date.parse(expires_at)).toBeLessThan(CLOSE_DELAY_MS_MAX);
  }, 20_000);

  test("when the user they were opened for is disabled or becomes an administrator", async () => {
    const { key } = await createKey(instance, root, { service: true });
    const [anna, ben] = [await instance.register(), await instance.register()];
    const [ownConnections, annaConnections, benConnections] = [
      await openConnections(root, key),
      await openConnections(root, key, anna),
      await openConnections(root, key, ben),
    ];
    await instance.database`update users set disabled_at = now() where id = ${anna.user.id}`;
    await expectClosed(annaConnections, 4506);
    await instance.database`update users set role = 'admin' where id = ${ben.user.id}`;
    await expectClosed(benConnections, 4506);
    expect(await ownConnections.closeAndReportOpen()).toBe(true);
  }, 20_000);

  test("when they act for another user and the owner is no longer an administrator", async () => {
    const formerAdmin = await registerAdmin(instance);
    const { key } = await createKey(instance, formerAdmin, { service: true });
    const anna = await instance.register();
    const [ownConnections, annaConnections] = [
      await openConnections(formerAdmin, key),
      await openConnections(formerAdmin, key, anna),
    ];
    await instance.database`update users set role = 'user' where id = ${formerAdmin.user.id}`;
    await expectClosed(annaConnections, 4506);
    expect(await ownConnections.closeAndReportOpen()).toBe(true);
    advanceClock(KEY_CACHE_MS);
    const response = await instance.fetch("/api/v1/me", { token: key, headers: { "x-on-behalf-of": anna.user.id } });
    expect(response.status).toBe(403);
  }, 20_000);
});
