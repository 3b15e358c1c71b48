import { afterAll, beforeAll, expect, test } from "bun:test";
import { createId } from "../../src/lib/id.ts";
import { type Account, startApp, TEST_PASSWORD, type TestApp } from "../support/app.ts";

/** Far above what ten wait for each other who log in at once, and below what they would wait for the flood. */
const LOGIN_MS_MAX = 5_000;
let parley: TestApp;
beforeAll(async () => {
  parley = await startApp({
    // A third of what a hash costs people, so that the floods come to an end; one at a time, as on a machine of two cores.
    passwords: { memoryKib: 8_192, passes: 2, parallelMax: 1 },
    config: { RATE_LIMIT_ENABLED: "true", TRUSTED_PROXIES: "127.0.0.1" },
  });
});
afterAll(() => parley.stop());

type Answer = { status: number; code: string | undefined; retryAfter: string | null; tookMs: number };

async function ask(path: string, address: string, json: unknown, token?: string): Promise<Answer> {
  const startedAtMs = performance.now();
  const response = await parley.fetch(path, {
    json,
    headers: { "x-forwarded-for": address },
    ...(token !== undefined && { token }),
  });
  const text = await response.text();
  return {
    status: response.status,
    code: text === "" ? undefined : JSON.parse(text).code,
    retryAfter: response.headers.get("retry-after"),
    tookMs: performance.now() - startedAtMs,
  };
}
const login = (email: string, address: string, password = TEST_PASSWORD) =>
  ask("/api/v1/auth/login", address, { email, password });
const loginUnknown = (address: string) => login(`${createId()}@example.com`, address);

async function register(address: string): Promise<Account> {
  const json = { email: `${createId()}@example.com`, password: TEST_PASSWORD };
  const response = await parley.fetch("/api/v1/auth/register", { json, headers: { "x-forwarded-for": address } });
  expect(response.status).toBe(201);
  return (await response.json()) as Account;
}

/** How many of a flood still wait. */
function watch(flood: Promise<Answer>[]) {
  const state = { waiting: flood.length, answers: Promise.all(flood) };
  for (const one of flood) one.finally(() => (state.waiting -= 1));
  return state;
}
const times = <T>(count: number, create: (n: number) => T): T[] => Array.from({ length: count }, (_, n) => create(n));
const countStatuses = (answers: Answer[]) => new Set(answers.map(({ status }) => status));

test("130 password changes of one user and 130 logins from another address keep nobody else from logging in", async () => {
  const attacker = await register("203.0.113.1");
  const others: { email: string; address: string }[] = [];
  for (const n of times(9, (count) => count)) {
    const { user } = await register(`198.51.100.${n}`);
    // A third of them from where nobody has logged in yet.
    others.push({ email: user.email, address: n % 3 === 0 ? `192.0.2.${n}` : `198.51.100.${n}` });
  }
  // One has an account, and shares the address of the flood.
  others.push({ email: (await register("203.0.113.2")).user.email, address: "203.0.113.2" });
  const change = { current_password: TEST_PASSWORD, new_password: "another good one" };
  const changes = times(130, (n) => ask("/api/v1/me/password", `100.64.0.${n}`, change, attacker.access_token));
  const flood = watch(times(130, () => loginUnknown("203.0.113.2")));
  await Promise.race(changes);
  const answers = await Promise.all(others.map(({ email, address }) => login(email, address)));
  expect(flood.waiting).toBeGreaterThan(0);
  expect(countStatuses(answers)).toEqual(new Set([200]));
  expect(Math.max(...answers.map(({ tookMs }) => tookMs))).toBeLessThan(LOGIN_MS_MAX);
  // One after the other it is the same.
  for (const { email, address } of others) expect((await login(email, address)).status).toBe(200);

  const changed = await Promise.all(changes);
  expect(changed.filter(({ status }) => status === 204)).toHaveLength(1);
  const tooMany = changed.filter(({ status }) => status === 429);
  expect(tooMany.length).toBeGreaterThan(100);
  expect(tooMany[0]).toMatchObject({ code: "rate_limited", retryAfter: "2" });
  const unknown = await flood.answers;
  expect(countStatuses(unknown)).toEqual(new Set([401, 429]));
  const refused = (await (await parley.fetch("/metrics")).text()).match(/^parley_rate_limited_total\{.*$/gm)?.join();
  expect(refused).toContain('limit="hashes"');
  expect(refused).toContain('limit="password_checks"');
}, 60_000);

test("while logins from many unknown addresses fill the room, those who were there before log in", async () => {
  const home = "198.51.100.77";
  const { user } = await register(home);
  // Goes on with a session elsewhere than where it was opened.
  const { user: colleague, refresh_token } = await register("198.51.100.78");
  const abroad = "192.0.2.79";
  expect((await ask("/api/v1/auth/refresh", abroad, { refresh_token })).status).toBe(200);
  const flood = times(240, (n) => loginUnknown(`10.${n}.0.1`));
  const state = watch(flood);
  // The room is full as soon as one of them is refused.
  const refused = await Promise.any(flood.map(async (one) => ((await one).status === 503 ? one : Promise.reject())));
  expect(refused).toMatchObject({ code: "overloaded", retryAfter: "2" });
  const known = await Promise.all([
    login(user.email, home),
    login(colleague.email, home),
    login(colleague.email, abroad),
  ]);
  expect(state.waiting).toBeGreaterThan(100);
  expect(countStatuses(known)).toEqual(new Set([200]));
  expect(countStatuses(await state.answers)).toEqual(new Set([401, 503]));
}, 60_000);

test("logins of clients that have gone are not hashed", async () => {
  const address = "203.0.113.9";
  const before = await countFailedLogins();
  const leaving = new AbortController();
  const gone = times(90, async () => {
    const email = `${createId()}@example.com`;
    const body = JSON.stringify({ email, password: "any password" });
    const headers = { "content-type": "application/json", "x-forwarded-for": address };
    await fetch(`${parley.url}/api/v1/auth/login`, { method: "POST", headers, body, signal: leaving.signal });
  });
  // Comes behind them, and has the second turn.
  await loginUnknown("203.0.113.10");
  leaving.abort();
  await Promise.allSettled(gone);
  // Were they still waiting, the next would be hashed about every 20 ms.
  let count = 0;
  for (let next = 1; next > count; next = await countFailedLogins()) {
    count = next;
    await Bun.sleep(1_000);
  }
  expect(count - before).toBeLessThan(45);
}, 60_000);

async function countFailedLogins(): Promise<number> {
  const [row] = await parley.database<{ count: number }[]>`
    select count(*)::int as count from audit_events where action = 'user.login_failed'`;
  return row?.count ?? 0;
}
