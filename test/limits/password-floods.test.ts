import { afterAll, beforeAll, expect, test } from "bun:test";
import { createId } from "../../src/lib/id.ts";
import { type Account, startApp, TEST_PASSWORD, type TestApp } from "../support/app.ts";

/** Far longer than ten concurrent logins take, but shorter than they would take if they waited behind the flood. */
const LOGIN_MS_MAX = 5_000;
let parley: TestApp;
beforeAll(async () => {
  parley = await startApp({
    // Hashes take a third of the usual time, to keep the test short. They run one at a time, as on a machine with two cores.
    passwords: { memoryKib: 8_192, iterations: 2, parallelMax: 1 },
    config: { RATE_LIMIT_ENABLED: "true", TRUSTED_PROXIES: "127.0.0.1" },
  });
});
afterAll(() => parley.stop());

type TimedResponse = { status: number; code: string | undefined; retryAfter: string | null; durationMs: number };

type PostOptions = { token?: string; signal?: AbortSignal };

async function postFrom(
  path: string,
  address: string,
  json: unknown,
  { token, signal }: PostOptions = {},
): Promise<TimedResponse> {
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
    durationMs: performance.now() - startedAtMs,
  };
}
const logIn = (email: string, address: string, signal?: AbortSignal) =>
  postFrom("/api/v1/auth/login", address, { email, password: TEST_PASSWORD }, { signal });
const logInUnknownUser = (address: string, signal?: AbortSignal) => logIn(`${createId()}@example.com`, address, signal);

async function registerFrom(address: string): Promise<Account> {
  const json = { email: `${createId()}@example.com`, password: TEST_PASSWORD };
  const response = await parley.fetch("/api/v1/auth/register", { json, headers: { "x-forwarded-for": address } });
  expect(response.status).toBe(201);
  return (await response.json()) as Account;
}

/** Counts the requests of a flood that have no response yet. */
function trackFlood(floodRequests: Promise<TimedResponse>[]) {
  const state = { pendingCount: floodRequests.length, responses: Promise.all(floodRequests) };
  for (const request of floodRequests) void request.finally(() => (state.pendingCount -= 1));
  return state;
}
const createMany = <T>(count: number, create: (n: number) => T): T[] =>
  Array.from({ length: count }, (_, n) => create(n));
const listStatuses = (responses: TimedResponse[]) => new Set(responses.map(({ status }) => status));

async function readRateLimitMetrics(): Promise<string> {
  const metrics = await (await parley.fetch("/metrics")).text();
  return metrics
    .split("\n")
    .filter((line) => line.startsWith("parley_rate_limited_total{"))
    .join("\n");
}

test("130 password changes by one user and 130 logins from one address don't delay other users' logins", async () => {
  const { access_token: token } = await registerFrom("203.0.113.1");
  const otherUsers: { email: string; address: string }[] = [];
  for (const n of createMany(9, (count) => count)) {
    const { user } = await registerFrom(`198.51.100.${n}`);
    // A third of these users log in from an unused address.
    otherUsers.push({ email: user.email, address: n % 3 === 0 ? `192.0.2.${n}` : `198.51.100.${n}` });
  }
  // One of these users shares the flood's address.
  otherUsers.push({ email: (await registerFrom("203.0.113.2")).user.email, address: "203.0.113.2" });
  const passwordChange = { current_password: TEST_PASSWORD, new_password: "another good one" };
  const changes = createMany(130, (n) => postFrom("/api/v1/me/password", `100.64.0.${n}`, passwordChange, { token }));
  const flood = trackFlood(createMany(130, () => logInUnknownUser("203.0.113.2")));
  await Promise.race(changes);
  const responses = await Promise.all(otherUsers.map(({ email, address }) => logIn(email, address)));
  expect(flood.pendingCount).toBeGreaterThan(0);
  expect(listStatuses(responses)).toEqual(new Set([200]));
  expect(Math.max(...responses.map(({ durationMs }) => durationMs))).toBeLessThan(LOGIN_MS_MAX);
  // Sequential logins succeed too.
  for (const { email, address } of otherUsers) expect((await logIn(email, address)).status).toBe(200);

  const changeResponses = await Promise.all(changes);
  expect(changeResponses.filter(({ status }) => status === 200)).toHaveLength(1);
  const rejections = changeResponses.filter(({ status }) => status === 429);
  expect(rejections.length).toBeGreaterThan(100);
  expect(rejections[0]).toMatchObject({ code: "rate_limited", retryAfter: "2" });
  for (const { status } of await flood.responses) expect([401, 429]).toContain(status);
  expect(await readRateLimitMetrics()).toContain('limit="password_checks"');
}, 60_000);

test("known clients can log in while logins from many unknown addresses fill the queue", async () => {
  const homeAddress = "198.51.100.77";
  const { user } = await registerFrom(homeAddress);
  // Refreshes the session from another address.
  const { user: colleague, refresh_token } = await registerFrom("198.51.100.78");
  const otherAddress = "192.0.2.79";
  expect((await postFrom("/api/v1/auth/refresh", otherAddress, { refresh_token })).status).toBe(200);
  const flood = startFlood();
  await flood.waitForRejections(1);
  // A single login wouldn't prove that known clients are preferred, because an unknown client sometimes gets a slot that was just released.
  const knownLogins = createMany(5, () => [
    logIn(user.email, homeAddress),
    logIn(colleague.email, homeAddress),
    logIn(colleague.email, otherAddress),
  ]);
  expect(listStatuses(await Promise.all(knownLogins.flat()))).toEqual(new Set([200]));
  // The queue is still full.
  await flood.waitForRejections(2);
  expect(await flood.stop()).toEqual(new Set([401, 503]));
  expect(await readRateLimitMetrics()).toContain('limit="hashes"');
}, 60_000);

/** Exceeds the queue's capacity, but leaves this process enough connections for other requests. */
const FLOOD_REQUESTS = 240;

/** Starts a flood of logins, each with an unknown account and from a new address. */
function startFlood() {
  const stopController = new AbortController();
  const statuses: number[] = [];
  let rejectedCount = 0;
  let sentCount = 0;
  async function sendLogins(): Promise<void> {
    while (!stopController.signal.aborted) {
      sentCount += 1;
      const address = `10.${sentCount >> 8}.${sentCount & 255}.1`;
      const { status, code } = await logInUnknownUser(address, stopController.signal);
      statuses.push(status);
      if (code === "overloaded") rejectedCount += 1;
      await Bun.sleep(20);
    }
  }
  const workers = createMany(FLOOD_REQUESTS, () => sendLogins().catch(() => {}));
  return {
    /** Waits for `count` more rejections, which prove that the queue is full. */
    async waitForRejections(count: number): Promise<void> {
      for (const targetCount = rejectedCount + count; rejectedCount < targetCount; ) await Bun.sleep(5);
    },

    /** Stops the flood, and returns the distinct statuses of the responses. */
    async stop(): Promise<Set<number>> {
      stopController.abort();
      await Promise.all(workers);
      return new Set(statuses);
    },
  };
}

test("the passwords of disconnected clients are not hashed", async () => {
  const failedLoginsBefore = await countFailedLogins();
  const disconnectController = new AbortController();
  const logins = createMany(90, () => logInUnknownUser("203.0.113.9", disconnectController.signal));
  // Although sent last, this login is served second, because the queue alternates between addresses.
  await logInUnknownUser("203.0.113.10");
  disconnectController.abort();
  await Promise.allSettled(logins);
  // If the flood's passwords were still queued, one would be hashed about every 20 ms.
  let count = 0;
  for (let nextCount = 1; nextCount > count; nextCount = await countFailedLogins()) {
    count = nextCount;
    await Bun.sleep(1_000);
  }
  expect(count - failedLoginsBefore).toBeLessThan(45);
}, 60_000);

async function countFailedLogins(): Promise<number> {
  const [row] = await parley.database<{ count: number }[]>`
    select count(*)::int as count from audit_events where action = 'user.login_failed'`;
  return row?.count ?? 0;
}
