import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import type { Database } from "../../src/db/client.ts";
import { type KeyTimes, keyTimes } from "../../src/modules/auth/oidc/limits.ts";
import { advanceClock, resetClock } from "../support/clock.ts";
import { createTestDatabase } from "../support/postgres.ts";
import { type Accounts, readProblem, startAccounts } from "./start-accounts.ts";
import { AUDIENCE, type Issuer, startIssuer } from "./start-issuer.ts";

let database: Database;
let issuer: Issuer;
const started: Accounts[] = [];
beforeAll(async () => {
  ({ database } = await createTestDatabase());
});
afterAll(() => database.end());
beforeEach(async () => {
  issuer = await startIssuer();
});
afterEach(async () => {
  resetClock();
  for (const accounts of started.splice(0)) await accounts.stop();
  await issuer.stop();
});

const refused = { status: 401, code: "unauthorized" };
const unavailable = { status: 503, code: "unavailable" };

/** An instance with its own key cache, whose timeouts are shortened. */
async function start(times: Partial<KeyTimes> = {}, jwksUrl?: string): Promise<Accounts> {
  const options = { issuer: issuer.url, audience: [AUDIENCE], jwksUrl, isProvisioning: true };
  const accounts = await startAccounts({ database, issuer: { ...options, times: { ...keyTimes, ...times } } });
  started.push(accounts);
  return accounts;
}
const ask = (accounts: Accounts, token: string) => accounts.call("/me", { token });

describe("rotation", () => {
  test("a new key is found at its first use, and the old one works as long as it is published", async () => {
    const accounts = await start({ cooldownMs: 200 });
    const old = await issuer.sign();
    expect((await ask(accounts, old)).status).toBe(200);
    const [oldKey] = issuer.keys;
    const newKey = await issuer.addKey("ES256");
    expect((await ask(accounts, await issuer.sign({}, { key: newKey }))).status).toBe(200);
    expect((await ask(accounts, await issuer.sign({}, { key: oldKey }))).status).toBe(200);
    issuer.keepOnly(newKey);
    await issuer.addKey("RS256");
    await Bun.sleep(220);
    // Makes the instance fetch the keys again, now without the old one.
    expect((await ask(accounts, await issuer.sign({}, { key: issuer.keys[1] }))).status).toBe(200);
    expect(await readProblem(await ask(accounts, await issuer.sign({}, { key: oldKey })))).toEqual(refused);
  });

  test("a withdrawn key is removed without a request for it", async () => {
    const accounts = await start({ refreshMs: 100 });
    const [oldKey] = issuer.keys;
    const used = await issuer.sign();
    expect((await ask(accounts, used)).status).toBe(200);
    issuer.keepOnly(await issuer.addKey("RS256"));
    await Bun.sleep(150);
    // Still accepted: the keys are refreshed in the background.
    expect((await ask(accounts, await issuer.sign({}, { key: oldKey }))).status).toBe(200);
    await Bun.sleep(100);
    for (const token of [used, await issuer.sign({}, { key: oldKey })])
      expect(await readProblem(await ask(accounts, token))).toEqual(refused);
  });

  test("a flood of unknown keys causes one request to the issuer per cooldown", async () => {
    const accounts = await start({ cooldownMs: 1_000 });
    expect((await ask(accounts, await issuer.sign())).status).toBe(200);
    const before = issuer.state.keyRequests;
    const flood = async (name: string) => {
      const tokens = await Promise.all(
        Array.from({ length: 40 }, (_, n) => issuer.sign({}, { header: { kid: `${name}${n}` } })),
      );
      const answers = await Promise.all(tokens.map(async (token) => readProblem(await ask(accounts, token))));
      expect(new Set(answers.map((answer) => JSON.stringify(answer)))).toEqual(new Set([JSON.stringify(refused)]));
    };
    for (const name of ["a", "b"]) {
      await flood(name);
      expect(issuer.state.keyRequests - before).toBe(1);
    }
    advanceClock(1_000);
    await flood("c");
    expect(issuer.state.keyRequests - before).toBe(2);
    expect((await ask(accounts, await issuer.sign())).status).toBe(200);
  });
});

describe("an unavailable issuer", () => {
  test("doesn't affect known keys, even after their refresh interval", async () => {
    const accounts = await start({ refreshMs: 50, cooldownMs: 50, retryMs: 50 });
    expect((await ask(accounts, await issuer.sign())).status).toBe(200);
    issuer.state.mode = "down";
    for (let round = 0; round < 4; round++) {
      await Bun.sleep(60);
      expect((await ask(accounts, await issuer.sign())).status).toBe(200);
    }
    expect(issuer.state.keyRequests).toBeGreaterThan(2);
    const unknown = await issuer.addKey("RS256");
    const answer = await ask(accounts, await issuer.sign({}, { key: unknown }));
    expect(answer.headers.get("retry-after")).toBe("1");
    expect(await readProblem(answer)).toEqual(unavailable);
    issuer.state.mode = "good";
    await Bun.sleep(60);
    expect((await ask(accounts, await issuer.sign({}, { key: unknown }))).status).toBe(200);
  });

  test("for too long invalidates its keys", async () => {
    const accounts = await start({ retentionMs: 200, retryMs: 50 });
    expect((await ask(accounts, await issuer.sign())).status).toBe(200);
    issuer.state.mode = "down";
    expect((await ask(accounts, await issuer.sign())).status).toBe(200);
    await Bun.sleep(250);
    expect(await readProblem(await ask(accounts, await issuer.sign()))).toEqual(unavailable);
  });

  test("is retried only after a pause, however many tokens arrive", async () => {
    issuer.state.mode = "down";
    const accounts = await start({ retryMs: 500 });
    const askAll = () =>
      Promise.all(Array.from({ length: 20 }, async () => readProblem(await ask(accounts, await issuer.sign()))));
    for (const answer of [...(await askAll()), ...(await askAll())]) expect(answer).toEqual(unavailable);
    expect(issuer.state.keyRequests).toBe(1);
    issuer.state.mode = "good";
    await Bun.sleep(550);
    expect((await ask(accounts, await issuer.sign())).status).toBe(200);
    expect(issuer.state.keyRequests).toBe(2);
  });
});

describe("invalid key documents", () => {
  const modes = ["html", "huge", "redirect", "no keys", "foreign document"] as const;
  for (const mode of modes)
    test(`are rejected: ${mode}`, async () => {
      const accounts = await start({ retryMs: 50, cooldownMs: 50 });
      issuer.state.mode = mode;
      const token = await issuer.sign();
      expect(await readProblem(await ask(accounts, token))).toEqual(unavailable);
      const login = await accounts.call("/auth/oidc", { json: { token } });
      expect(await readProblem(login)).toEqual(unavailable);
      expect(issuer.state.secretReads).toBe(0);
      issuer.state.mode = "good";
      await Bun.sleep(60);
      expect((await ask(accounts, token)).status).toBe(200);
      // Cached keys remain valid.
      issuer.state.mode = mode;
      await Bun.sleep(60);
      expect(await readProblem(await ask(accounts, await issuer.sign({}, { header: { kid: "x" } })))).toEqual(
        unavailable,
      );
      expect((await ask(accounts, await issuer.sign())).status).toBe(200);
    });

  test("are rejected: slow, without delaying other requests", async () => {
    const accounts = await start({ timeoutMs: 300 });
    const { access_token } = await accounts.register();
    issuer.state.mode = "slow";
    const startedAt = performance.now();
    const waiting = ask(accounts, await issuer.sign());
    expect((await ask(accounts, access_token)).status).toBe(200);
    expect(performance.now() - startedAt).toBeLessThan(290);
    expect(await readProblem(await waiting)).toEqual(unavailable);
    expect(performance.now() - startedAt).toBeLessThan(2_000);
  });
});

describe("the keys' URL", () => {
  test("is OIDC_JWKS_URL, which needs no discovery", async () => {
    const accounts = await start({}, `${issuer.url}/keys`);
    expect((await ask(accounts, await issuer.sign())).status).toBe(200);
    expect(issuer.state).toMatchObject({ discoveries: 0, keyRequests: 1 });
  });

  test("is reported as unavailable if it is unreachable", async () => {
    const accounts = await start({}, "http://127.0.0.1:1/keys");
    expect(await readProblem(await ask(accounts, await issuer.sign()))).toEqual(unavailable);
  });
});
