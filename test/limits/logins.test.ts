import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import { startApp, TEST_PASSWORD, type TestApp } from "../support/app.ts";
import { createRestClient } from "../support/rest.ts";
import { advanceClock, resetClock } from "../support/test-clock.ts";
import { parseLimitHeader } from "./headers.ts";

const FREE_FAILURES = 3;
/** Each hash takes about 10 ms, noticeably longer than a rejection. */
const NOTICEABLE_HASHES = { memoryKib: 8_192, iterations: 1 };
let parley: TestApp;
beforeAll(async () => {
  parley = await startApp({
    passwords: NOTICEABLE_HASHES,
    config: { RATE_LIMIT_ENABLED: "true", RATE_LIMIT_LOGIN_FAILURES: String(FREE_FAILURES) },
  });
});
afterEach(resetClock);
afterAll(() => parley.stop());

type LoginResponse = { status: number; retryAfter: string | null; body: Record<string, unknown>; durationMs: number };

async function logIn(email: string, password: string): Promise<LoginResponse> {
  const startedAtMs = performance.now();
  const response = await parley.fetch("/api/v1/auth/login", { json: { email, password } });
  const { request_id, instance, ...body } = (await response.json()) as Record<string, unknown>;
  return {
    status: response.status,
    retryAfter: response.headers.get("retry-after"),
    body,
    durationMs: performance.now() - startedAtMs,
  };
}
const listAudit = (action: string, userId: string | null) =>
  parley.database<
    { details: Record<string, unknown>; ip_address: string | null }[]
  >`select details, ip_address from audit_events where action = ${action} and target_id is not distinct from ${userId} order by id`;

describe("wrong passwords", () => {
  test("get the same response for existing and unknown accounts", async () => {
    const { user } = await parley.register();
    const knownResponses: LoginResponse[] = [];
    const unknownResponses: LoginResponse[] = [];
    for (let n = 0; n < FREE_FAILURES + 2; n += 1) {
      knownResponses.push(await logIn(user.email, `guess ${n}`));
      unknownResponses.push(await logIn("nobody@example.com", `guess ${n}`));
    }
    const omitDurations = (responses: LoginResponse[]) => responses.map(({ durationMs, ...response }) => response);
    expect(omitDurations(knownResponses)).toEqual(omitDurations(unknownResponses));
    expect(knownResponses.map(({ status }) => status)).toEqual([...Array(FREE_FAILURES).fill(401), 429, 429]);
    const rejectedLogin = knownResponses[FREE_FAILURES];
    expect(rejectedLogin).toMatchObject({ retryAfter: "1", body: { code: "rate_limited", status: 429 } });
    // A rejection is faster, because nothing is hashed.
    const checkedMs = Math.min(...knownResponses.slice(0, FREE_FAILURES).map(({ durationMs }) => durationMs));
    expect(Math.min(rejectedLogin?.durationMs ?? 99, knownResponses[FREE_FAILURES + 1]?.durationMs ?? 99)).toBeLessThan(
      checkedMs,
    );
    // The lock is audited once, not for each rejected attempt.
    const auditedIds = { account: user.id, nobody: null };
    expect(await listAudit("user.login_failed", auditedIds.account)).toHaveLength(FREE_FAILURES);
    expect(await listAudit("user.login_failed", auditedIds.nobody)).toHaveLength(FREE_FAILURES);
    const entry = { details: { scope: "account_and_address", wait_s: 1 }, ip_address: "127.0.0.1" };
    expect([...(await listAudit("user.login_limited", user.id))]).toEqual([entry]);
    expect([...(await listAudit("user.login_limited", null))]).toEqual([entry]);
  });

  test("make even the correct password fail until the wait is over, and a login with the correct password then resets the lock", async () => {
    const { user } = await parley.register();
    for (let n = 0; n < FREE_FAILURES; n += 1) await logIn(user.email.toUpperCase(), "wrong");
    expect(await logIn(user.email, TEST_PASSWORD)).toMatchObject({ status: 429, retryAfter: "1" });
    advanceClock(1_010);
    expect((await logIn(user.email, "wrong")).status).toBe(401);
    expect(await logIn(user.email, TEST_PASSWORD)).toMatchObject({ status: 429, retryAfter: "2" });
    advanceClock(2_010);
    expect((await logIn(user.email, TEST_PASSWORD)).status).toBe(200);
    for (let n = 0; n < FREE_FAILURES - 1; n += 1) expect((await logIn(user.email, "wrong")).status).toBe(401);
    expect((await logIn(user.email, TEST_PASSWORD)).status).toBe(200);
  });

  test("are checked only as often as the free guesses allow, even if they are sent concurrently", async () => {
    const { user } = await parley.register();
    const guesses = Array.from({ length: 16 }, (_, n) => logIn(user.email, n === 15 ? TEST_PASSWORD : `guess ${n}`));
    const startedAtMs = performance.now();
    const statuses = (await Promise.all(guesses)).map(({ status }) => status);
    // On a slow machine, waits of 1 s, 2 s, … end during the test, and each allows one more guess.
    const waits = Math.floor(Math.log2(1 + (performance.now() - startedAtMs) / 1_000));
    const wrongCount = statuses.filter((status) => status === 401).length;
    expect(wrongCount).toBeGreaterThanOrEqual(FREE_FAILURES);
    expect(wrongCount).toBeLessThanOrEqual(FREE_FAILURES + waits);
    expect(statuses.filter((status) => status === 429)).toHaveLength(16 - wrongCount);
  });
});

describe("a 429 response", () => {
  const postJson = async (path: string, json: object, token?: string) => {
    const response = await parley.fetch(`/api/v1${path}`, { json, ...(token !== undefined && { token }) });
    const { violated_policies } = (await response.json()) as { violated_policies?: string[] };
    return { status: response.status, headers: response.headers, violated_policies };
  };

  test("identifies the violated policy, with 0 attempts remaining", async () => {
    const anna = await parley.register();
    const account = { email: anna.user.email, password: "a wrong one" };
    const proof = { current_password: "a wrong one", new_password: "another good one" };
    for (const [path, json, token] of [
      ["/auth/login", account],
      ["/auth/login", { ...account, email: "nobody-at-all@example.com" }],
      ["/me/password", proof, anna.access_token],
    ] as const) {
      for (let n = 0; n < FREE_FAILURES; n += 1)
        expect((await postJson(path, json, token)).status).toBeOneOf([401, 403]);
      const { status, headers, violated_policies } = await postJson(path, json, token);
      expect({ path, status }).toEqual({ path, status: 429 });
      expect(violated_policies).toEqual(["login_account_and_address"]);
      expect(parseLimitHeader(headers.get("ratelimit"))).toEqual({
        login_account_and_address: { r: 0, t: Number(headers.get("retry-after")) },
      });
      expect(parseLimitHeader(headers.get("ratelimit-policy"))).toEqual({
        login_account_and_address: { q: FREE_FAILURES, w: 3_600 },
      });
      advanceClock(20_000);
    }
  });

  test("identifies each violated policy, with a separate wait for each", async () => {
    const strictApp = await startApp({
      config: {
        RATE_LIMIT_ENABLED: "true",
        RATE_LIMIT_LOGIN_FAILURES: "3",
        RATE_LIMIT_LOGIN_FAILURES_PER_ACCOUNT: "2",
        RATE_LIMIT_LOGIN_FAILURES_PER_ADDRESS: "3",
      },
    });
    try {
      const json = { email: "nobody@example.com", password: "a wrong one" };
      for (let n = 0; n < 2; n += 1) await strictApp.fetch("/api/v1/auth/login", { json });
      const secondResponse = await strictApp.fetch("/api/v1/auth/login", { json });
      expect(Object.keys(parseLimitHeader(secondResponse.headers.get("ratelimit")))).toEqual(["login_account"]);
      advanceClock(1_010);
      expect((await strictApp.fetch("/api/v1/auth/login", { json })).status).toBe(401);
      const thirdResponse = await strictApp.fetch("/api/v1/auth/login", { json });
      const policies = parseLimitHeader(thirdResponse.headers.get("ratelimit"));
      expect(Object.keys(policies)).toEqual(["login_account_and_address", "login_account", "login_address"]);
      expect(Object.values(policies).map(({ r }) => r)).toEqual([0, 0, 0]);
      expect(Math.max(...Object.values(policies).map(({ t = 0 }) => t))).toBe(
        Number(thirdResponse.headers.get("retry-after")),
      );
      // With a different account, only the address's limit is violated.
      const other = await strictApp.fetch("/api/v1/auth/login", { json: { ...json, email: "other@example.com" } });
      expect(Object.keys(parseLimitHeader(other.headers.get("ratelimit")))).toEqual(["login_address"]);
    } finally {
      await strictApp.stop();
    }
  });
});

test("50 concurrent logins with the correct password all succeed", async () => {
  const { user } = await parley.register();
  const responses = await Promise.all(Array.from({ length: 50 }, () => logIn(user.email, TEST_PASSWORD)));
  expect(new Set(responses.map(({ status }) => status))).toEqual(new Set([200]));
});

test("a logged-in user's wrong passwords count together on all routes that require the current password", async () => {
  const anna = await parley.register();
  const rest = createRestClient(parley, anna);
  const wrongChange = { current_password: "wrong", new_password: "another good one" };
  for (let n = 0; n < FREE_FAILURES - 1; n += 1)
    expect((await rest.request("POST", "/me/password", wrongChange)).status).toBe(403);
  expect((await rest.request("DELETE", "/me", { current_password: "wrong" })).status).toBe(403);
  const correctChange = { ...wrongChange, current_password: TEST_PASSWORD };
  const problem = await rest.requestProblem("POST", "/me/password", correctChange);
  expect(problem).toMatchObject({ status: 429, code: "rate_limited" });
  expect(await rest.requestProblem("DELETE", "/me", { current_password: TEST_PASSWORD })).toMatchObject({
    code: "rate_limited",
  });
  advanceClock(1_010);
  expect((await rest.request("POST", "/me/password", correctChange)).status).toBe(200);
});
