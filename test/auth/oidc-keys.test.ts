import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import type { Database } from "../../src/db/client.ts";
import { type KeyTimes, keyTimes } from "../../src/modules/auth/oidc/limits.ts";
import { createTestDatabase } from "../support/postgres.ts";
import { advanceClock, resetClock } from "../support/test-clock.ts";
import { type Accounts, readProblem, startAccounts } from "./start-accounts.ts";
import { AUDIENCE, type Issuer, startIssuer } from "./start-issuer.ts";

let database: Database;
let issuer: Issuer;
const startedAccounts: Accounts[] = [];
beforeAll(async () => {
  ({ database } = await createTestDatabase());
});
afterAll(() => database.end());
beforeEach(async () => {
  issuer = await startIssuer();
});
afterEach(async () => {
  resetClock();
  for (const accounts of startedAccounts.splice(0)) await accounts.stop();
  await issuer.stop();
});

const unauthorized = { status: 401, code: "unauthorized" };
const unavailable = { status: 503, code: "unavailable" };

/** Starts an instance with an empty key cache. */
async function startInstance(times: Partial<KeyTimes> = {}, jwksUrl?: string): Promise<Accounts> {
  const options = { issuer: issuer.url, audience: [AUDIENCE], jwksUrl, isProvisioning: true };
  const accounts = await startAccounts({ database, issuer: { ...options, times: { ...keyTimes, ...times } } });
  startedAccounts.push(accounts);
  return accounts;
}
const fetchMe = (accounts: Accounts, token: string) => accounts.sendRequest("/me", { token });

describe("key rotation", () => {
  test("makes a new key valid at its first use, and keeps the old key valid while the issuer publishes it", async () => {
    const accounts = await startInstance({ cooldownMs: 200 });
    const oldToken = await issuer.sign();
    expect((await fetchMe(accounts, oldToken)).status).toBe(200);
    const [oldKey] = issuer.keys;
    const newKey = await issuer.addKey("ES256");
    expect((await fetchMe(accounts, await issuer.sign({}, { key: newKey }))).status).toBe(200);
    expect((await fetchMe(accounts, await issuer.sign({}, { key: oldKey }))).status).toBe(200);
    issuer.keepOnlyKey(newKey);
    await issuer.addKey("RS256");
    await Bun.sleep(220);
    // This unknown key makes the instance fetch the keys again, now without the old one.
    expect((await fetchMe(accounts, await issuer.sign({}, { key: issuer.keys[1] }))).status).toBe(200);
    expect(await readProblem(await fetchMe(accounts, await issuer.sign({}, { key: oldKey })))).toEqual(unauthorized);
  });

  test("removes a withdrawn key in the background", async () => {
    const accounts = await startInstance({ refreshMs: 100 });
    const [oldKey] = issuer.keys;
    const oldToken = await issuer.sign();
    expect((await fetchMe(accounts, oldToken)).status).toBe(200);
    issuer.keepOnlyKey(await issuer.addKey("RS256"));
    await Bun.sleep(150);
    // The withdrawn key is still accepted, because the keys are refreshed in the background.
    expect((await fetchMe(accounts, await issuer.sign({}, { key: oldKey }))).status).toBe(200);
    await Bun.sleep(100);
    for (const token of [oldToken, await issuer.sign({}, { key: oldKey })])
      expect(await readProblem(await fetchMe(accounts, token))).toEqual(unauthorized);
  });

  test("causes one request to the issuer per cooldown, even for many unknown keys", async () => {
    const accounts = await startInstance({ cooldownMs: 1_000 });
    expect((await fetchMe(accounts, await issuer.sign())).status).toBe(200);
    const requestsBefore = issuer.state.keyRequests;
    const sendUnknownKeys = async (name: string) => {
      const tokens = await Promise.all(
        Array.from({ length: 40 }, (_, n) => issuer.sign({}, { header: { kid: `${name}${n}` } })),
      );
      const problems = await Promise.all(tokens.map(async (token) => readProblem(await fetchMe(accounts, token))));
      expect(new Set(problems.map((problem) => JSON.stringify(problem)))).toEqual(
        new Set([JSON.stringify(unauthorized)]),
      );
    };
    for (const name of ["a", "b"]) {
      await sendUnknownKeys(name);
      expect(issuer.state.keyRequests - requestsBefore).toBe(1);
    }
    advanceClock(1_000);
    await sendUnknownKeys("c");
    expect(issuer.state.keyRequests - requestsBefore).toBe(2);
    expect((await fetchMe(accounts, await issuer.sign())).status).toBe(200);
  });
});

describe("an unavailable issuer", () => {
  test("doesn't affect known keys, even after their refresh interval", async () => {
    const accounts = await startInstance({ refreshMs: 50, cooldownMs: 50, retryMs: 50 });
    expect((await fetchMe(accounts, await issuer.sign())).status).toBe(200);
    issuer.state.mode = "down";
    for (let round = 0; round < 4; round++) {
      await Bun.sleep(60);
      expect((await fetchMe(accounts, await issuer.sign())).status).toBe(200);
    }
    expect(issuer.state.keyRequests).toBeGreaterThan(2);
    const unknownKey = await issuer.addKey("RS256");
    const response = await fetchMe(accounts, await issuer.sign({}, { key: unknownKey }));
    expect(response.headers.get("retry-after")).toBe("1");
    expect(await readProblem(response)).toEqual(unavailable);
    issuer.state.mode = "working";
    await Bun.sleep(60);
    expect((await fetchMe(accounts, await issuer.sign({}, { key: unknownKey }))).status).toBe(200);
  });

  test("invalidates the issuer's cached keys after the retention time", async () => {
    const accounts = await startInstance({ retentionMs: 200, retryMs: 50 });
    expect((await fetchMe(accounts, await issuer.sign())).status).toBe(200);
    issuer.state.mode = "down";
    expect((await fetchMe(accounts, await issuer.sign())).status).toBe(200);
    await Bun.sleep(250);
    expect(await readProblem(await fetchMe(accounts, await issuer.sign()))).toEqual(unavailable);
  });

  test("is retried only after a delay, even if many tokens arrive", async () => {
    issuer.state.mode = "down";
    const accounts = await startInstance({ retryMs: 500 });
    const sendTokens = () =>
      Promise.all(Array.from({ length: 20 }, async () => readProblem(await fetchMe(accounts, await issuer.sign()))));
    for (const problem of [...(await sendTokens()), ...(await sendTokens())]) expect(problem).toEqual(unavailable);
    expect(issuer.state.keyRequests).toBe(1);
    issuer.state.mode = "working";
    await Bun.sleep(550);
    expect((await fetchMe(accounts, await issuer.sign())).status).toBe(200);
    expect(issuer.state.keyRequests).toBe(2);
  });
});

describe("invalid key documents", () => {
  const modes = ["html", "huge", "redirect", "no keys", "another issuer's document"] as const;
  for (const mode of modes)
    test(`are rejected (${mode})`, async () => {
      const accounts = await startInstance({ retryMs: 50, cooldownMs: 50 });
      issuer.state.mode = mode;
      const token = await issuer.sign();
      expect(await readProblem(await fetchMe(accounts, token))).toEqual(unavailable);
      const login = await accounts.sendRequest("/auth/oidc", { json: { token } });
      expect(await readProblem(login)).toEqual(unavailable);
      expect(issuer.state.internalRequests).toBe(0);
      issuer.state.mode = "working";
      await Bun.sleep(60);
      expect((await fetchMe(accounts, token)).status).toBe(200);
      // Cached keys remain valid.
      issuer.state.mode = mode;
      await Bun.sleep(60);
      expect(await readProblem(await fetchMe(accounts, await issuer.sign({}, { header: { kid: "x" } })))).toEqual(
        unavailable,
      );
      expect((await fetchMe(accounts, await issuer.sign())).status).toBe(200);
    });

  test("are rejected if they arrive slowly, without delaying other requests", async () => {
    const accounts = await startInstance({ timeoutMs: 300 });
    const { access_token } = await accounts.register();
    issuer.state.mode = "slow";
    const startedAtMs = performance.now();
    const slowResponse = fetchMe(accounts, await issuer.sign());
    expect((await fetchMe(accounts, access_token)).status).toBe(200);
    expect(performance.now() - startedAtMs).toBeLessThan(290);
    expect(await readProblem(await slowResponse)).toEqual(unavailable);
    expect(performance.now() - startedAtMs).toBeLessThan(2_000);
  });
});

describe("the keys' URL", () => {
  test("is OIDC_JWKS_URL, which makes discovery unnecessary", async () => {
    const accounts = await startInstance({}, `${issuer.url}/keys`);
    expect((await fetchMe(accounts, await issuer.sign())).status).toBe(200);
    expect(issuer.state).toMatchObject({ discoveries: 0, keyRequests: 1 });
  });

  test("makes requests fail with 503 if it is unreachable", async () => {
    const accounts = await startInstance({}, "http://127.0.0.1:1/keys");
    expect(await readProblem(await fetchMe(accounts, await issuer.sign()))).toEqual(unavailable);
  });
});
