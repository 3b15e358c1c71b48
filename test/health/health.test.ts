import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import { openDatabase } from "../../src/db/client.ts";
import { createLifecycle } from "../../src/lib/lifecycle.ts";
import { createMetrics } from "../../src/lib/metrics.ts";
import { createHealthService } from "../../src/modules/health/service.ts";
import { startApp, type TestApp } from "../support/app.ts";
import { createTestDatabase } from "../support/postgres.ts";
import { openSocket } from "../support/socket.ts";

/** What conventions promise for an answer of /readyz. */
const READINESS_MAX_MS = 100;

describe("over HTTP", () => {
  let parley: TestApp;
  beforeAll(async () => {
    parley = await startApp();
  });
  afterAll(() => parley.stop());

  test.each(["/livez", "/readyz", "/healthz"])("%s is 200, never kept, and asks for nothing", async (path) => {
    const response = await parley.fetch(path);
    expect(response.status).toBe(200);
    expect(response.headers.get("cache-control")).toBe("no-store");
    expect((await response.text()).trim()).toBe(path === "/livez" ? "alive" : "ready");
  });

  test("?verbose names each check, ?exclude leaves some out", async () => {
    const all = await (await parley.fetch("/readyz?verbose")).text();
    expect(all).toBe("[+]lifecycle ok\n[+]migrations ok\n[+]database ok\nready\n");
    const some = await (await parley.fetch("/readyz?verbose&exclude=database,lifecycle&utm=1")).text();
    expect(some).toBe("[+]migrations ok\nready\n");
  });

  test("/version tells what runs", async () => {
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
])("with %p bytes free on the disk of the embedded database it is ready: %p", async (freeBytes, isReady) => {
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

describe("while it starts and while it drains", () => {
  let parley: TestApp;
  afterEach(() => parley.stop());

  test("an instance that leaves isn't ready, but takes messages and sockets until it drains", async () => {
    parley = await startApp();
    const { access_token: token } = await parley.register();
    const { id } = (await (await parley.fetch("/api/v1/conversations", { token, json: {} })).json()) as { id: string };
    const send = (content: string) =>
      parley.fetch(`/api/v1/conversations/${id}/messages`, { token, json: { content } });
    parley.lifecycle.markLeaving();
    expect((await parley.fetch("/livez")).status).toBe(200);
    const readiness = await parley.fetch("/readyz?verbose");
    expect(readiness.status).toBe(503);
    expect(await readiness.text()).toStartWith("[-]lifecycle failed\n");
    expect((await send("while it leaves")).status).toBe(201);
    const { socket } = await openSocket(parley.url, { token });
    socket.close();

    parley.lifecycle.markDraining();
    // It never goes back.
    parley.lifecycle.markLeaving();
    const refused = await send("while it drains");
    expect({ status: refused.status, code: ((await refused.json()) as { code: string }).code }).toEqual({
      status: 503,
      code: "draining",
    });
    await expect(openSocket(parley.url, { token })).rejects.toThrow("refused");
  });

  test("an instance that was never ready drains at once", () => {
    const lifecycle = createLifecycle();
    lifecycle.markLeaving();
    expect(lifecycle.phase).toBe("draining");
  });

  test("a draining instance is alive and not ready, and still answers", async () => {
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

describe("the database", () => {
  test("that is away is noticed at once, and so is its return", async () => {
    const { target } = await createTestDatabase();
    const lifecycle = createLifecycle();
    lifecycle.markReady();
    const metrics = createMetrics({ version: "test", commit: "test" });
    const away = openDatabase({ target: { url: "postgres://nobody@127.0.0.1:1/nothing" }, poolSize: 1 });
    const there = openDatabase({ target, poolSize: 1 });

    const unready = createHealthService({ database: away, lifecycle, metrics });
    const startedAt = performance.now();
    expect(await unready.checkReadiness()).toEqual({
      ready: false,
      checks: [
        { name: "lifecycle", ok: true },
        { name: "migrations", ok: true },
        { name: "database", ok: false },
      ],
    });
    expect(performance.now() - startedAt).toBeLessThan(READINESS_MAX_MS);
    expect((await unready.checkReadiness(["database"])).ready).toBe(true);
    expect(await unready.exposeMetrics()).toContain('parley_db_pool_connections{state="idle"} 0\n');

    const ready = createHealthService({ database: there, lifecycle, metrics });
    expect((await ready.checkReadiness()).ready).toBe(true);
    await Promise.all([away.end(), there.end()]);
  });

  test("that hangs does not hold up the answer", async () => {
    // Takes connections and never says a word, as a server behind a broken network does.
    const silent = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
    const url = `postgres://nobody@127.0.0.1:${silent.port}/nothing`;
    const database = openDatabase({ target: { url }, poolSize: 1 });
    const lifecycle = createLifecycle();
    lifecycle.markReady();
    const metrics = createMetrics({ version: "test", commit: "test" });
    const health = createHealthService({ database, lifecycle, metrics });
    const startedAt = performance.now();
    expect((await health.checkReadiness()).ready).toBe(false);
    expect(performance.now() - startedAt).toBeLessThan(READINESS_MAX_MS);
    silent.stop(true);
    await database.end({ timeout: 0 });
  });

  test("is asked once by a flood of probes, and not again within a second", async () => {
    const { target } = await createTestDatabase();
    const database = openDatabase({ target, poolSize: 1 });
    // To connect may take longer than a probe waits.
    await database`select 1`;
    let asked = 0;
    const counting = new Proxy(database, {
      apply(sql, self, args) {
        asked += 1;
        return Reflect.apply(sql, self, args);
      },
    });
    const lifecycle = createLifecycle();
    lifecycle.markReady();
    const metrics = createMetrics({ version: "test", commit: "test" });
    const health = createHealthService({ database: counting, lifecycle, metrics });
    const answers = await Promise.all(Array.from({ length: 100 }, () => health.checkReadiness()));
    expect(answers.every(({ ready }) => ready)).toBe(true);
    expect((await health.checkReadiness()).ready).toBe(true);
    expect(asked).toBe(1);
    await database.end();
  });
});
