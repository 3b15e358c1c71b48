import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import { createLoginGuard, type LoginGuard } from "../../src/limits/login-guard.ts";
import { connectRedis } from "../../src/redis/link.ts";
import { type Account, startApp, TEST_PASSWORD, type TestApp } from "../support/app.ts";
import type { FetchOptions } from "../support/client.ts";
import { silentLog } from "../support/log.ts";
import { createTestDatabase } from "../support/postgres.ts";
import { startRedis, type TestRedis } from "../support/redis.ts";
import { parseLimitHeader } from "./headers.ts";

/** Far longer than a normal response, but shorter than a Redis command would hang without a timeout. */
const RESPONSE_MS_MAX = 1_000;
const READINESS_MS_MAX = 4_000;

let redis: TestRedis;
let apps: TestApp[] = [];
/** Each test uses its own Redis database, because all of them count requests from 127.0.0.1. */
let redisDatabase = 0;
beforeAll(async () => {
  redis = await startRedis();
});
afterEach(async () => {
  await Promise.all(apps.map((app) => app.stop()));
  apps = [];
});
afterAll(() => redis.stop());

/** Starts two instances that share a database and a Redis server. */
async function startPair(config: Record<string, string>): Promise<[TestApp, TestApp]> {
  const database = await createTestDatabase(20);
  redisDatabase += 1;
  const REDIS_URL = `${redis.url}/${redisDatabase}`;
  const options = { database, config: { RATE_LIMIT_ENABLED: "true", REDIS_URL, ...config } };
  const instances: [TestApp, TestApp] = [await startApp(options), await startApp(options)];
  apps = instances;
  for (const app of instances) await waitForReadyzLine(app, "[+]redis ok");
  return instances;
}

async function waitForReadyzLine(app: TestApp, line: string): Promise<void> {
  const deadlineMs = performance.now() + READINESS_MS_MAX;
  while (!(await (await app.fetch("/readyz?verbose")).text()).includes(line)) {
    if (performance.now() > deadlineMs) throw new Error(`/readyz did not show ${line} in time.`);
    await Bun.sleep(20);
  }
}

/** Sends requests one after the other, expects timely responses, and returns their statuses. */
async function repeatRequest(app: TestApp, count: number, path: string, options: FetchOptions): Promise<number[]> {
  const statuses: number[] = [];
  for (let n = 0; n < count; n += 1) {
    const startedAtMs = performance.now();
    const response = await app.fetch(path, options);
    await response.text();
    expect(performance.now() - startedAtMs).toBeLessThan(RESPONSE_MS_MAX);
    statuses.push(response.status);
  }
  return statuses;
}

const requestMe = (app: TestApp, times: number, { access_token: token }: Account) =>
  repeatRequest(app, times, "/api/v1/me", { token });

describe("two instances with one Redis", () => {
  test("share a user's limits exactly", async () => {
    const [firstApp, secondApp] = await startPair({ RATE_LIMIT_READ_PER_10S: "100" });
    const anna = await firstApp.register();
    const clients = Array.from({ length: 16 }, (_, n) => requestMe(n % 2 === 0 ? firstApp : secondApp, 10, anna));
    const statuses = (await Promise.all(clients)).flat();
    expect(statuses.filter((status) => status === 200)).toHaveLength(100);
    expect(statuses.filter((status) => status === 429)).toHaveLength(60);
    const rejectedResponse = await secondApp.fetch("/api/v1/me", { token: anna.access_token });
    const { burst } = parseLimitHeader(rejectedResponse.headers.get("ratelimit"));
    expect(burst?.r).toBe(0);
    expect(Number(rejectedResponse.headers.get("retry-after"))).toBeGreaterThanOrEqual(burst?.t ?? 99);
  });

  test("share the limits of a client address", async () => {
    const [firstApp, secondApp] = await startPair({ RATE_LIMIT_AUTH_PER_10S: "4" });
    const json = { email: "nobody", password: "x" };
    const login = (app: TestApp) => repeatRequest(app, 1, "/api/v1/auth/login", { json });
    for (const app of [firstApp, secondApp, firstApp, secondApp]) expect(await login(app)).toEqual([422]);
    expect([await login(firstApp), await login(secondApp)]).toEqual([[429], [429]]);
  });

  test("share an account's failed and successful logins", async () => {
    const [firstApp, secondApp] = await startPair({ RATE_LIMIT_LOGIN_FAILURES: "4" });
    const { user } = await firstApp.register();
    const login = (app: TestApp, password: string) =>
      repeatRequest(app, 1, "/api/v1/auth/login", { json: { email: user.email, password } });
    for (const app of [firstApp, secondApp, firstApp, secondApp]) expect(await login(app, "wrong")).toEqual([401]);
    expect([await login(firstApp, TEST_PASSWORD), await login(secondApp, TEST_PASSWORD)]).toEqual([[429], [429]]);
    await redis.expireKeys("parley:*:limit:login:account_and_address:lock*", redisDatabase);
    expect(await login(secondApp, TEST_PASSWORD)).toEqual([200]);
    for (let n = 0; n < 3; n += 1) expect(await login(firstApp, "wrong")).toEqual([401]);
    expect(await login(firstApp, TEST_PASSWORD)).toEqual([200]);
  });

  test("share the addresses that an account was used from, and cache them locally while Redis is unavailable", async () => {
    redisDatabase += 1;
    const links = [0, 1].map(() => connectRedis(`${redis.url}/${redisDatabase}`, "test", silentLog));
    const failures = { account_and_address: 5, account: 100, address: 300 };
    const guards = links.map((link) => createLoginGuard({ failures, redis: link, onRejected: () => {} }));
    const [firstGuard, secondGuard] = guards as [LoginGuard, LoginGuard];
    const getKnownBy = async (guard: LoginGuard, account: string) =>
      (await guard.startAttempt(account, "203.0.113.1")).knownBy;
    try {
      while (links.some((link) => !link.isAvailable())) await Bun.sleep(10);
      expect([await getKnownBy(secondGuard, "anna"), await secondGuard.findKnownBy("203.0.113.1")]).toEqual([
        "nothing",
        "nothing",
      ]);
      await (await firstGuard.startAttempt("anna", "203.0.113.1")).succeed();
      expect([await getKnownBy(secondGuard, "anna"), await getKnownBy(secondGuard, "ben")]).toEqual([
        "account",
        "address",
      ]);
      await redis.kill();
      await firstGuard.rememberAddress("carl", "203.0.113.1");
      expect([await getKnownBy(firstGuard, "carl"), await getKnownBy(secondGuard, "carl")]).toEqual([
        "account",
        "nothing",
      ]);
    } finally {
      for (const link of links) await link.close();
      await redis.kill();
      await redis.start();
    }
  });
});

describe("without a working Redis", () => {
  test("each instance counts locally without errors or delays, and recovers automatically", async () => {
    const [firstApp, secondApp] = await startPair({ RATE_LIMIT_READ_PER_10S: "4" });
    const [anna, ben] = [await firstApp.register(), await firstApp.register()];
    await redis.kill();
    expect(await requestMe(firstApp, 5, anna)).toEqual([200, 200, 200, 200, 429]);
    expect(await requestMe(secondApp, 5, anna)).toEqual([200, 200, 200, 200, 429]);
    await waitForReadyzLine(firstApp, "[-]redis failed");
    expect((await firstApp.fetch("/readyz")).status).toBe(200);
    await redis.start();
    await Promise.all([waitForReadyzLine(firstApp, "[+]redis ok"), waitForReadyzLine(secondApp, "[+]redis ok")]);
    expect(await requestMe(firstApp, 3, ben)).toEqual([200, 200, 200]);
    expect(await requestMe(secondApp, 2, ben)).toEqual([200, 429]);
  }, 20_000);

  test("a hanging Redis delays only the first requests", async () => {
    const [firstApp] = await startPair({});
    const anna = await firstApp.register();
    redis.pause();
    try {
      expect(await requestMe(firstApp, 3, anna)).toEqual([200, 200, 200]);
      await waitForReadyzLine(firstApp, "[-]redis failed");
      const startedAtMs = performance.now();
      await requestMe(firstApp, 10, anna);
      // If each request sent a command, the requests would take ten times the command timeout.
      expect(performance.now() - startedAtMs).toBeLessThan(2_000);
    } finally {
      redis.resume();
    }
    await waitForReadyzLine(firstApp, "[+]redis ok");
  }, 20_000);

  test("an unusable REDIS_URL doesn't prevent startup", async () => {
    for (const url of ["redis://127.0.0.1:1", "redis://no-such-host.invalid:6379", `${redis.url}/9999`]) {
      const app = await startApp({
        config: { RATE_LIMIT_ENABLED: "true", REDIS_URL: url, RATE_LIMIT_READ_PER_10S: "2" },
      });
      apps.push(app);
      expect(await requestMe(app, 3, await app.register())).toEqual([200, 200, 429]);
      const readiness = await app.fetch("/readyz?verbose");
      expect({ url, status: readiness.status }).toEqual({ url, status: 200 });
      if (!url.endsWith("9999")) expect(await readiness.text()).toContain("[-]redis failed\n");
    }
  }, 20_000);
});
