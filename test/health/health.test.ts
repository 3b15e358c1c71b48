import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import { openDatabase } from "../../src/db/client.ts";
import { createLifecycle } from "../../src/lib/lifecycle.ts";
import { createMetrics } from "../../src/lib/metrics.ts";
import { createHealthService } from "../../src/modules/health/service.ts";
import { startApp, type TestApp } from "../support/app.ts";
import { createTestDatabase } from "../support/postgres.ts";
import { openSocket } from "../support/socket.ts";

/** The maximum response time of /readyz. */
const READINESS_MS_MAX = 100;

describe("the health endpoints", () => {
  let parley: TestApp;
  beforeAll(async () => {
    parley = await startApp();
  });
  afterAll(() => parley.stop());

  test.each(["/livez", "/readyz", "/healthz"])(
    "include %s, which returns 200 with no-store and needs no credentials",
    async (path) => {
      const response = await parley.fetch(path);
      expect(response.status).toBe(200);
      expect(response.headers.get("cache-control")).toBe("no-store");
      expect((await response.text()).trim()).toBe(path === "/livez" ? "alive" : "ready");
    },
  );

  test("list the checks with `verbose`, and skip some with `exclude`", async () => {
    const allChecks = await (await parley.fetch("/readyz?verbose")).text();
    expect(allChecks).toBe("[+]lifecycle ok\n[+]migrations ok\n[+]database ok\nready\n");
    const remainingChecks = await (await parley.fetch("/readyz?verbose&exclude=database,lifecycle&utm=1")).text();
    expect(remainingChecks).toBe("[+]migrations ok\nready\n");
  });

  test("include /version, which returns the version and commit", async () => {
    const version = await (await parley.fetch("/version")).json();
    expect(version).toEqual({
      version: expect.stringMatching(/^\d+\.\d+\.\d+$/),
      commit: "source",
      built_at: null,
      bun: Bun.version,
      postgres: expect.stringMatching(/^\d+\.\d+/),
    });
  });
});

test.each([
  [0, false],
  [4 * 1024 * 1024 - 1, false],
  [4 * 1024 * 1024, true],
  [null, true],
])("with %p free bytes on the embedded database's disk, `ready` is %p", async (freeBytes, isReady) => {
  const { database } = await createTestDatabase();
  const lifecycle = createLifecycle();
  lifecycle.markReady();
  const metrics = createMetrics({ version: "1.2.3", commit: "abc" });
  const health = createHealthService({ database, lifecycle, metrics, findFreeBytes: async () => freeBytes });
  const { ready, checks } = await health.checkReadiness();
  expect({ ready, disk: checks.find(({ name }) => name === "disk")?.ok ?? null }).toEqual({
    ready: isReady,
    disk: freeBytes === null ? null : isReady,
  });
  expect((await health.checkReadiness(["disk"])).ready).toBe(true);
  await database.end();
});

describe("shutdown:", () => {
  let parley: TestApp;
  afterEach(() => parley.stop());

  test("an instance that is shutting down isn't ready, but accepts messages and sockets until it drains", async () => {
    parley = await startApp();
    const { access_token: token } = await parley.register();
    const { id } = (await (await parley.fetch("/api/v1/conversations", { token, json: {} })).json()) as { id: string };
    const sendMessage = (content: string) =>
      parley.fetch(`/api/v1/conversations/${id}/messages`, { token, json: { content } });
    parley.lifecycle.markLeaving();
    expect((await parley.fetch("/livez")).status).toBe(200);
    const readiness = await parley.fetch("/readyz?verbose");
    expect(readiness.status).toBe(503);
    expect(await readiness.text()).toStartWith("[-]lifecycle failed\n");
    expect((await sendMessage("before draining")).status).toBe(201);
    const { socket } = await openSocket(parley.url, { token });
    socket.close();

    parley.lifecycle.markDraining();
    // Draining can't be undone.
    parley.lifecycle.markLeaving();
    const rejectedResponse = await sendMessage("while draining");
    expect({
      status: rejectedResponse.status,
      code: ((await rejectedResponse.json()) as { code: string }).code,
    }).toEqual({
      status: 503,
      code: "draining",
    });
    await expect(openSocket(parley.url, { token })).rejects.toThrow("closed during the handshake");
  });

  test("an instance that was never ready drains immediately", () => {
    const lifecycle = createLifecycle();
    lifecycle.markLeaving();
    expect(lifecycle.phase).toBe("draining");
  });

  test("a draining instance is alive but not ready, and still serves other requests", async () => {
    parley = await startApp();
    const { access_token: token } = await parley.register();
    parley.lifecycle.markDraining();
    expect((await parley.fetch("/livez")).status).toBe(200);
    const readiness = await parley.fetch("/readyz?verbose");
    expect(readiness.status).toBe(503);
    expect(await readiness.text()).toStartWith("[-]lifecycle failed\n");
    expect((await parley.fetch("/api/v1/me", { token })).status).toBe(200);
  });
});

describe("the database check", () => {
  test("fails immediately if the database is unreachable, and succeeds otherwise", async () => {
    const { target } = await createTestDatabase();
    const lifecycle = createLifecycle();
    lifecycle.markReady();
    const metrics = createMetrics({ version: "test", commit: "test" });
    const unreachableDatabase = openDatabase({ target: { url: "postgres://nobody@127.0.0.1:1/nothing" }, poolSize: 1 });
    const reachableDatabase = openDatabase({ target, poolSize: 1 });

    const unreadyHealth = createHealthService({ database: unreachableDatabase, lifecycle, metrics });
    const startedAtMs = performance.now();
    expect(await unreadyHealth.checkReadiness()).toEqual({
      ready: false,
      checks: [
        { name: "lifecycle", ok: true },
        { name: "migrations", ok: true },
        { name: "database", ok: false },
      ],
    });
    expect(performance.now() - startedAtMs).toBeLessThan(READINESS_MS_MAX);
    expect((await unreadyHealth.checkReadiness(["database"])).ready).toBe(true);
    expect(await unreadyHealth.renderMetrics()).toContain('parley_db_pool_connections{state="idle"} 0\n');

    const readyHealth = createHealthService({ database: reachableDatabase, lifecycle, metrics });
    expect((await readyHealth.checkReadiness()).ready).toBe(true);
    await Promise.all([unreachableDatabase.end(), reachableDatabase.end()]);
  });

  test("fails after a timeout if the database doesn't respond", async () => {
    const unresponsiveServer = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
    const url = `postgres://nobody@127.0.0.1:${unresponsiveServer.port}/nothing`;
    const database = openDatabase({ target: { url }, poolSize: 1 });
    const lifecycle = createLifecycle();
    lifecycle.markReady();
    const metrics = createMetrics({ version: "test", commit: "test" });
    const health = createHealthService({ database, lifecycle, metrics });
    const startedAtMs = performance.now();
    expect((await health.checkReadiness()).ready).toBe(false);
    expect(performance.now() - startedAtMs).toBeLessThan(READINESS_MS_MAX);
    unresponsiveServer.stop(true);
    await database.end({ timeout: 0 });
  });

  test("queries the database at most once per second, even if there are many probes", async () => {
    const { target } = await createTestDatabase();
    const database = openDatabase({ target, poolSize: 1 });
    // Connects first, because connecting may take longer than a probe waits.
    await database`select 1`;
    let queryCount = 0;
    const countingDatabase = new Proxy(database, {
      apply(sql, self, args) {
        queryCount += 1;
        return Reflect.apply(sql, self, args);
      },
    });
    const lifecycle = createLifecycle();
    lifecycle.markReady();
    const metrics = createMetrics({ version: "test", commit: "test" });
    const health = createHealthService({ database: countingDatabase, lifecycle, metrics });
    const results = await Promise.all(Array.from({ length: 100 }, () => health.checkReadiness()));
    expect(results.every(({ ready }) => ready)).toBe(true);
    expect((await health.checkReadiness()).ready).toBe(true);
    expect(queryCount).toBe(1);
    await database.end();
  });
});
