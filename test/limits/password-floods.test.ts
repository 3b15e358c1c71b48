import { afterAll, beforeAll, expect, test } from "bun:test";
import { createId } from "../../src/lib/id.ts";
import { type Account, startApp, TEST_PASSWORD, type TestApp } from "../support/app.ts";

/** Far above the time of ten concurrent logins, and below what they would wait behind the flood. */
const LOGIN_MS_MAX = 5_000;
let parley: TestApp;
beforeAll(async () => {
  parley = await startApp({
    // Hashes take a third of their usual time, so that the floods end soon; one at a time, as on a machine with two cores.
    passwords: { memoryKib: 8_192, passes: 2, parallelMax: 1 },
    config: { RATE_LIMIT_ENABLED: "true", TRUSTED_PROXIES: "127.0.0.1" },
  });
});
afterAll(() => parley.stop());

type Answer = { status: number; code: string | undefined; retryAfter: string | null; tookMs: number };

type Options = { token?: string; signal?: AbortSignal };

async function ask(path: string, address: string, json: unknown, { token, signal }: Options = {}): Promise<Answer> {
  const startedAtMs = performance.now();
  const response = await fetch(`${parley.url}${path}`, {
    method: "POST",
    headers: {
      "content-type": "application/json",
      "x-forwarded-for": address,
      ...(token !== undefined && { authorization: `Bearer ${token}` }),
    },
    body: JSON.stringify(json),
    ...(signal && { signal }),
  });
  const text = await response.text();
  return {
    status: response.status,
    code: text === "" ? undefined : JSON.parse(text).code,
    retryAfter: response.headers.get("retry-after"),
    tookMs: performance.now() - startedAtMs,
  };
}
const login = (email: string, address: string, signal?: AbortSignal) =>
  ask("/api/v1/auth/login", address, { email, password: TEST_PASSWORD }, { signal });
const loginUnknown = (address: string, signal?: AbortSignal) => login(`${createId()}@example.com`, address, signal);

async function register(address: string): Promise<Account> {
  const json = { email: `${createId()}@example.com`, password: TEST_PASSWORD };
  const response = await parley.fetch("/api/v1/auth/register", { json, headers: { "x-forwarded-for": address } });
  expect(response.status).toBe(201);
  return (await response.json()) as Account;
}

/** How many of a flood still wait. */
function watch(flood: Promise<Answer>[]) {
  const state = { waiting: flood.length, answers: Promise.all(flood) };
  for (const one of flood) void one.finally(() => (state.waiting -= 1));
  return state;
}
const times = <T>(count: number, create: (n: number) => T): T[] => Array.from({ length: count }, (_, n) => create(n));
const countStatuses = (answers: Answer[]) => new Set(answers.map(({ status }) => status));

async function readRefused(): Promise<string> {
  const metrics = await (await parley.fetch("/metrics")).text();
  return metrics
    .split("\n")
    .filter((line) => line.startsWith("parley_rate_limited_total{"))
    .join("\n");
}

test("130 password changes of one user and 130 logins from another address delay no one else's login", async () => {
  const { access_token: token } = await register("203.0.113.1");
  const others: { email: string; address: string }[] = [];
  for (const n of times(9, (count) => count)) {
    const { user } = await register(`198.51.100.${n}`);
    // A third of them from an address where no one has logged in yet.
    others.push({ email: user.email, address: n % 3 === 0 ? `192.0.2.${n}` : `198.51.100.${n}` });
  }
  // One with an account, who shares the address of the flood.
  others.push({ email: (await register("203.0.113.2")).user.email, address: "203.0.113.2" });
  const change = { current_password: TEST_PASSWORD, new_password: "another good one" };
  const changes = times(130, (n) => ask("/api/v1/me/password", `100.64.0.${n}`, change, { token }));
  const flood = watch(times(130, () => loginUnknown("203.0.113.2")));
  await Promise.race(changes);
  const answers = await Promise.all(others.map(({ email, address }) => login(email, address)));
  expect(flood.waiting).toBeGreaterThan(0);
  expect(countStatuses(answers)).toEqual(new Set([200]));
  expect(Math.max(...answers.map(({ tookMs }) => tookMs))).toBeLessThan(LOGIN_MS_MAX);
  // The same one after the other.
  for (const { email, address } of others) expect((await login(email, address)).status).toBe(200);

  const changed = await Promise.all(changes);
  expect(changed.filter(({ status }) => status === 200)).toHaveLength(1);
  const tooMany = changed.filter(({ status }) => status === 429);
  expect(tooMany.length).toBeGreaterThan(100);
  expect(tooMany[0]).toMatchObject({ code: "rate_limited", retryAfter: "2" });
  for (const { status } of await flood.answers) expect([401, 429]).toContain(status);
  expect(await readRefused()).toContain('limit="password_checks"');
}, 60_000);

test("while logins from many unknown addresses fill the queue, clients that are known log in", async () => {
  const home = "198.51.100.77";
  const { user } = await register(home);
  // Continues a session elsewhere than where it was opened.
  const { user: colleague, refresh_token } = await register("198.51.100.78");
  const abroad = "192.0.2.79";
  expect((await ask("/api/v1/auth/refresh", abroad, { refresh_token })).status).toBe(200);
  const flood = startFlood();
  await flood.untilRefused(1);
  // Several of each: now and then an unknown one gets a slot that was just freed.
  const known = times(5, () => [login(user.email, home), login(colleague.email, home), login(colleague.email, abroad)]);
  expect(countStatuses(await Promise.all(known.flat()))).toEqual(new Set([200]));
  // The queue was full all the time, and still is.
  await flood.untilRefused(2);
  expect(await flood.stop()).toEqual(new Set([401, 503]));
  expect(await readRefused()).toContain('limit="hashes"');
}, 60_000);

/** As many requests as this process can have in flight, keeping some for others: more than the queue holds. */
const FLOOD_REQUESTS = 240;

/** Unknown accounts from new addresses, each used once. */
function startFlood() {
  const stopping = new AbortController();
  const statuses: number[] = [];
  let refused = 0;
  let sentRequests = 0;
  async function run(): Promise<void> {
    while (!stopping.signal.aborted) {
      sentRequests += 1;
      const address = `10.${sentRequests >> 8}.${sentRequests & 255}.1`;
      const { status, code } = await loginUnknown(address, stopping.signal);
      statuses.push(status);
      if (code === "overloaded") refused += 1;
      await Bun.sleep(20);
    }
  }
  const all = times(FLOOD_REQUESTS, () => run().catch(() => {}));
  return {
    /** Waits for this many refusals from now on, which arrive while the queue is full. */
    async untilRefused(count: number): Promise<void> {
      for (const end = refused + count; refused < end; ) await Bun.sleep(5);
    },

    /** @returns the responses of the requests that did not wait until the end. */
    async stop(): Promise<Set<number>> {
      stopping.abort();
      await Promise.all(all);
      return new Set(statuses);
    },
  };
}

test("logins of disconnected clients are not hashed", async () => {
  const before = await countFailedLogins();
  const leaving = new AbortController();
  const gone = times(90, () => loginUnknown("203.0.113.9", leaving.signal));
  // Queued behind them, it is served second.
  await loginUnknown("203.0.113.10");
  leaving.abort();
  await Promise.allSettled(gone);
  // If they were still waiting, the next would be hashed about every 20 ms.
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
