import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import { startApp, TEST_PASSWORD, type TestApp } from "../support/app.ts";
import { advanceClock, resetClock } from "../support/clock.ts";
import { createRest } from "../support/rest.ts";
import { parseLimitHeader } from "./headers.ts";

const FREE = 3;
/** About 10 ms: more than a refusal takes. */
const NOTICEABLE_HASHES = { memoryKib: 8_192, passes: 1 };
let parley: TestApp;
beforeAll(async () => {
  parley = await startApp({
    passwords: NOTICEABLE_HASHES,
    config: { RATE_LIMIT_ENABLED: "true", RATE_LIMIT_LOGIN_FAILURES: String(FREE) },
  });
});
afterEach(resetClock);
afterAll(() => parley.stop());

type Answer = { status: number; retryAfter: string | null; body: Record<string, unknown>; tookMs: number };

async function login(email: string, password: string): Promise<Answer> {
  const startedAtMs = performance.now();
  const response = await parley.fetch("/api/v1/auth/login", { json: { email, password } });
  const { request_id, instance, ...body } = (await response.json()) as Record<string, unknown>;
  return {
    status: response.status,
    retryAfter: response.headers.get("retry-after"),
    body,
    tookMs: performance.now() - startedAtMs,
  };
}
const listAudit = (action: string, userId: string | null) =>
  parley.database<
    { details: Record<string, unknown>; ip_address: string | null }[]
  >`select details, ip_address from audit_events where action = ${action} and target_id is not distinct from ${userId} order by id`;

describe("wrong passwords", () => {
  test("get the same response for an existing account and for an unknown one", async () => {
    const { user } = await parley.register();
    const known: Answer[] = [];
    const unknown: Answer[] = [];
    for (let n = 0; n < FREE + 2; n += 1) {
      known.push(await login(user.email, `guess ${n}`));
      unknown.push(await login("nobody@example.com", `guess ${n}`));
    }
    const shown = (answers: Answer[]) => answers.map(({ tookMs, ...answer }) => answer);
    expect(shown(known)).toEqual(shown(unknown));
    expect(known.map(({ status }) => status)).toEqual([...Array(FREE).fill(401), 429, 429]);
    const refused = known[FREE];
    expect(refused).toMatchObject({ retryAfter: "1", body: { code: "rate_limited", status: 429 } });
    // A refusal costs no hash.
    const checkedMs = Math.min(...known.slice(0, FREE).map(({ tookMs }) => tookMs));
    expect(Math.min(refused?.tookMs ?? 99, known[FREE + 1]?.tookMs ?? 99)).toBeLessThan(checkedMs);
    // The lock is audited once, not for each refused attempt.
    const failed = { account: user.id, nobody: null };
    expect(await listAudit("user.login_failed", failed.account)).toHaveLength(FREE);
    expect(await listAudit("user.login_failed", failed.nobody)).toHaveLength(FREE);
    const entry = { details: { scope: "account_and_address", wait_s: 1 }, ip_address: "127.0.0.1" };
    expect([...(await listAudit("user.login_limited", user.id))]).toEqual([entry]);
    expect([...(await listAudit("user.login_limited", null))]).toEqual([entry]);
  });

  test("lock out the right one too until the wait is over, which then resets the lock", async () => {
    const { user } = await parley.register();
    for (let n = 0; n < FREE; n += 1) await login(user.email.toUpperCase(), "wrong");
    expect(await login(user.email, TEST_PASSWORD)).toMatchObject({ status: 429, retryAfter: "1" });
    advanceClock(1_010);
    expect((await login(user.email, "wrong")).status).toBe(401);
    expect(await login(user.email, TEST_PASSWORD)).toMatchObject({ status: 429, retryAfter: "2" });
    advanceClock(2_010);
    expect((await login(user.email, TEST_PASSWORD)).status).toBe(200);
    for (let n = 0; n < FREE - 1; n += 1) expect((await login(user.email, "wrong")).status).toBe(401);
    expect((await login(user.email, TEST_PASSWORD)).status).toBe(200);
  });

  test("16 concurrent guesses reveal no more than the free ones", async () => {
    const { user } = await parley.register();
    const guesses = Array.from({ length: 16 }, (_, n) => login(user.email, n === 15 ? TEST_PASSWORD : `guess ${n}`));
    const startedAtMs = performance.now();
    const statuses = (await Promise.all(guesses)).map(({ status }) => status);
    // Each wait that ends meanwhile, on a slow machine, allows one more guess: after 1 s, after 2 s more, and so on.
    const waits = Math.floor(Math.log2(1 + (performance.now() - startedAtMs) / 1_000));
    const wrong = statuses.filter((status) => status === 401).length;
    expect(wrong).toBeGreaterThanOrEqual(FREE);
    expect(wrong).toBeLessThanOrEqual(FREE + waits);
    expect(statuses.filter((status) => status === 429)).toHaveLength(16 - wrong);
  });
});

describe("a 429", () => {
  const refuse = async (path: string, json: object, token?: string) => {
    const response = await parley.fetch(`/api/v1${path}`, { json, ...(token !== undefined && { token }) });
    const { violated_policies } = (await response.json()) as { violated_policies?: string[] };
    return { status: response.status, headers: response.headers, violated_policies };
  };

  test("names the violated policy, with nothing left of it", async () => {
    const anna = await parley.register();
    const account = { email: anna.user.email, password: "a wrong one" };
    const proof = { current_password: "a wrong one", new_password: "another good one" };
    for (const [path, json, token] of [
      ["/auth/login", account],
      ["/auth/login", { ...account, email: "nobody-at-all@example.com" }],
      ["/me/password", proof, anna.access_token],
    ] as const) {
      for (let n = 0; n < FREE; n += 1) expect((await refuse(path, json, token)).status).toBeOneOf([401, 403]);
      const { status, headers, violated_policies } = await refuse(path, json, token);
      expect({ path, status }).toEqual({ path, status: 429 });
      expect(violated_policies).toEqual(["login_account_and_address"]);
      expect(parseLimitHeader(headers.get("ratelimit"))).toEqual({
        login_account_and_address: { r: 0, t: Number(headers.get("retry-after")) },
      });
      expect(parseLimitHeader(headers.get("ratelimit-policy"))).toEqual({
        login_account_and_address: { q: FREE, w: 3_600 },
      });
      advanceClock(20_000);
    }
  });

  test("names each violated policy, with separate waits", async () => {
    const strict = await startApp({
      config: {
        RATE_LIMIT_ENABLED: "true",
        RATE_LIMIT_LOGIN_FAILURES: "3",
        RATE_LIMIT_LOGIN_FAILURES_PER_ACCOUNT: "2",
        RATE_LIMIT_LOGIN_FAILURES_PER_ADDRESS: "3",
      },
    });
    try {
      const json = { email: "nobody@example.com", password: "a wrong one" };
      for (let n = 0; n < 2; n += 1) await strict.fetch("/api/v1/auth/login", { json });
      const second = await strict.fetch("/api/v1/auth/login", { json });
      expect(Object.keys(parseLimitHeader(second.headers.get("ratelimit")))).toEqual(["login_account"]);
      advanceClock(1_010);
      expect((await strict.fetch("/api/v1/auth/login", { json })).status).toBe(401);
      const third = await strict.fetch("/api/v1/auth/login", { json });
      const left = parseLimitHeader(third.headers.get("ratelimit"));
      expect(Object.keys(left)).toEqual(["login_account_and_address", "login_account", "login_address"]);
      expect(Object.values(left).map(({ r }) => r)).toEqual([0, 0, 0]);
      expect(Math.max(...Object.values(left).map(({ t = 0 }) => t))).toBe(Number(third.headers.get("retry-after")));
      // For the address alone: another account.
      const other = await strict.fetch("/api/v1/auth/login", { json: { ...json, email: "other@example.com" } });
      expect(Object.keys(parseLimitHeader(other.headers.get("ratelimit")))).toEqual(["login_address"]);
    } finally {
      await strict.stop();
    }
  });
});

test("50 concurrent logins with the right password all succeed", async () => {
  const { user } = await parley.register();
  const all = await Promise.all(Array.from({ length: 50 }, () => login(user.email, TEST_PASSWORD)));
  expect(new Set(all.map(({ status }) => status))).toEqual(new Set([200]));
});

test("the current password of a logged-in user is guarded alike on every route that requires it", async () => {
  const anna = await parley.register();
  const rest = createRest(parley, anna);
  const change = { current_password: "wrong", new_password: "another good one" };
  for (let n = 0; n < FREE - 1; n += 1) expect((await rest.request("POST", "/me/password", change)).status).toBe(403);
  expect((await rest.request("DELETE", "/me", { current_password: "wrong" })).status).toBe(403);
  const right = { ...change, current_password: TEST_PASSWORD };
  const refused = await rest.refused("POST", "/me/password", right);
  expect(refused).toMatchObject({ status: 429, code: "rate_limited" });
  expect(await rest.refused("DELETE", "/me", { current_password: TEST_PASSWORD })).toMatchObject({
    code: "rate_limited",
  });
  advanceClock(1_010);
  expect((await rest.request("POST", "/me/password", right)).status).toBe(200);
});
