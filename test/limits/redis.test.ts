import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import { createLoginGuard, type LoginGuard } from "../../src/limits/login-guard.ts";
import { connectRedis } from "../../src/redis/link.ts";
import { type Account, startApp, TEST_PASSWORD, type TestApp } from "../support/app.ts";
import type { FetchOptions } from "../support/client.ts";
import { silentLog } from "../support/log.ts";
import { createTestDatabase } from "../support/postgres.ts";
import { startRedis, type TestRedis } from "../support/redis.ts";
import { parseLimitHeader } from "./headers.ts";

/** Far above a normal response time, and below the time that a hanging Redis command would take without a limit. */
const ANSWER_MS_MAX = 1_000;
const NOTICED_MS_MAX = 4_000;

let redis: TestRedis;
let apps: TestApp[] = [];
/** Each test has its own Redis database, as all of them count for 127.0.0.1. */
let place = 0;
beforeAll(async () => {
  redis = await startRedis();
});
afterEach(async () => {
  await Promise.all(apps.map((app) => app.stop()));
  apps = [];
});
afterAll(() => redis.stop());

/** Two instances on one database and one Redis. */
async function startTwo(config: Record<string, string>): Promise<[TestApp, TestApp]> {
  const database = await createTestDatabase(20);
  place += 1;
  const REDIS_URL = `${redis.url}/${place}`;
  const options = { database, config: { RATE_LIMIT_ENABLED: "true", REDIS_URL, ...config } };
  const two: [TestApp, TestApp] = [await startApp(options), await startApp(options)];
  apps = two;
  for (const app of two) await untilRedis(app, "[+]redis ok");
  return two;
}

async function untilRedis(app: TestApp, line: string): Promise<void> {
  const endsAtMs = performance.now() + NOTICED_MS_MAX;
  while (!(await (await app.fetch("/readyz?verbose")).text()).includes(line)) {
    if (performance.now() > endsAtMs) throw new Error(`/readyz never showed ${line}.`);
    await Bun.sleep(20);
  }
}

/** The status of each request, all of them in time. */
async function ask(app: TestApp, times: number, path: string, options: FetchOptions): Promise<number[]> {
  const statuses: number[] = [];
  for (let n = 0; n < times; n += 1) {
    const startedAtMs = performance.now();
    const response = await app.fetch(path, options);
    await response.text();
    expect(performance.now() - startedAtMs).toBeLessThan(ANSWER_MS_MAX);
    statuses.push(response.status);
  }
  return statuses;
}

const me = (app: TestApp, times: number, { access_token: token }: Account) => ask(app, times, "/api/v1/me", { token });

describe("two instances with one Redis", () => {
  test("share a user's limits exactly", async () => {
    const [one, two] = await startTwo({ RATE_LIMIT_READ_PER_10S: "100" });
    const anna = await one.register();
    const clients = Array.from({ length: 16 }, (_, n) => me(n % 2 === 0 ? one : two, 10, anna));
    const statuses = (await Promise.all(clients)).flat();
    expect(statuses.filter((status) => status === 200)).toHaveLength(100);
    expect(statuses.filter((status) => status === 429)).toHaveLength(60);
    const refused = await two.fetch("/api/v1/me", { token: anna.access_token });
    const { burst } = parseLimitHeader(refused.headers.get("ratelimit"));
    expect(burst?.r).toBe(0);
    expect(Number(refused.headers.get("retry-after"))).toBeGreaterThanOrEqual(burst?.t ?? 99);
  });

  test("share the limits of a client address", async () => {
    const [one, two] = await startTwo({ RATE_LIMIT_AUTH_PER_10S: "4" });
    const json = { email: "nobody", password: "x" };
    const login = (app: TestApp) => ask(app, 1, "/api/v1/auth/login", { json });
    for (const app of [one, two, one, two]) expect(await login(app)).toEqual([422]);
    expect([await login(one), await login(two)]).toEqual([[429], [429]]);
  });

  test("share the failures of a login, and its success", async () => {
    const [one, two] = await startTwo({ RATE_LIMIT_LOGIN_FAILURES: "4" });
    const { user } = await one.register();
    const login = (app: TestApp, password: string) =>
      ask(app, 1, "/api/v1/auth/login", { json: { email: user.email, password } });
    for (const app of [one, two, one, two]) expect(await login(app, "wrong")).toEqual([401]);
    expect([await login(one, TEST_PASSWORD), await login(two, TEST_PASSWORD)]).toEqual([[429], [429]]);
    await redis.endTimes("parley:*:limit:login:account_and_address:lock*", place);
    expect(await login(two, TEST_PASSWORD)).toEqual([200]);
    for (let n = 0; n < 3; n += 1) expect(await login(one, "wrong")).toEqual([401]);
    expect(await login(one, TEST_PASSWORD)).toEqual([200]);
  });

  test("share where an account was used, and remember it locally while Redis is unavailable", async () => {
    place += 1;
    const links = [0, 1].map(() => connectRedis(`${redis.url}/${place}`, "test", silentLog));
    const failures = { account_and_address: 5, account: 100, address: 300 };
    const guards = links.map((link) => createLoginGuard({ failures, redis: link, onRefused: () => {} }));
    const [one, two] = guards as [LoginGuard, LoginGuard];
    const see = async (guard: LoginGuard, account: string) => (await guard.begin(account, "203.0.113.1")).knownBy;
    try {
      while (links.some((link) => !link.isAlive())) await Bun.sleep(10);
      expect([await see(two, "anna"), await two.findKnown("203.0.113.1")]).toEqual(["nothing", "nothing"]);
      await (await one.begin("anna", "203.0.113.1")).succeed();
      expect([await see(two, "anna"), await see(two, "ben")]).toEqual(["account", "address"]);
      await redis.kill();
      await one.remember("carl", "203.0.113.1");
      expect([await see(one, "carl"), await see(two, "carl")]).toEqual(["account", "nothing"]);
    } finally {
      for (const link of links) await link.close();
      await redis.kill();
      await redis.start();
    }
  });
});

describe("while Redis is unavailable", () => {
  test("each instance counts locally, nothing fails or waits, and it recovers automatically", async () => {
    const [one, two] = await startTwo({ RATE_LIMIT_READ_PER_10S: "4" });
    const [anna, ben] = [await one.register(), await one.register()];
    await redis.kill();
    expect(await me(one, 5, anna)).toEqual([200, 200, 200, 200, 429]);
    expect(await me(two, 5, anna)).toEqual([200, 200, 200, 200, 429]);
    await untilRedis(one, "[-]redis failed");
    expect((await one.fetch("/readyz")).status).toBe(200);
    await redis.start();
    await Promise.all([untilRedis(one, "[+]redis ok"), untilRedis(two, "[+]redis ok")]);
    expect(await me(one, 3, ben)).toEqual([200, 200, 200]);
    expect(await me(two, 2, ben)).toEqual([200, 429]);
  }, 20_000);

  test("a hanging Redis delays few requests, and soon none", async () => {
    const [one] = await startTwo({});
    const anna = await one.register();
    redis.freeze();
    try {
      expect(await me(one, 3, anna)).toEqual([200, 200, 200]);
      await untilRedis(one, "[-]redis failed");
      const startedAtMs = performance.now();
      await me(one, 10, anna);
      // Ten times the timeout of a command, if each sent one.
      expect(performance.now() - startedAtMs).toBeLessThan(2_000);
    } finally {
      redis.thaw();
    }
    await untilRedis(one, "[+]redis ok");
  }, 20_000);

  test("an invalid REDIS_URL does not prevent the start", async () => {
    for (const url of ["redis://127.0.0.1:1", "redis://no-such-host.invalid:6379", `${redis.url}/9999`]) {
      const app = await startApp({
        config: { RATE_LIMIT_ENABLED: "true", REDIS_URL: url, RATE_LIMIT_READ_PER_10S: "2" },
      });
      apps.push(app);
      expect(await me(app, 3, await app.register())).toEqual([200, 200, 429]);
      const readiness = await app.fetch("/readyz?verbose");
      expect({ url, status: readiness.status }).toEqual({ url, status: 200 });
      if (!url.endsWith("9999")) expect(await readiness.text()).toContain("[-]redis failed\n");
    }
  }, 20_000);
});
