import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import type { JWTPayload } from "jose";
import { IDENTITY_CACHE_MS } from "../../src/modules/auth/limits.ts";
import type { Session, Tokens } from "../../src/modules/auth/model.ts";
import { startApp, TEST_PASSWORD, type TestApp } from "../support/app.ts";
import { advanceClock, resetClock } from "../support/clock.ts";
import { openStream } from "../support/event-stream.ts";
import { createTestDatabase } from "../support/postgres.ts";
import { openSocket } from "../support/socket.ts";
import { readJson, readProblem } from "./start-accounts.ts";
import { AUDIENCE, type Issuer, startIssuer } from "./start-issuer.ts";

let issuer: Issuer;
let parley: TestApp;
let other: TestApp;
let server: Awaited<ReturnType<typeof createTestDatabase>>;
beforeAll(async () => {
  issuer = await startIssuer();
  server = await createTestDatabase();
  const config = { OIDC_ISSUER: issuer.url, OIDC_AUDIENCE: AUDIENCE };
  parley = await startApp({ database: server, config });
  other = await startApp({ database: server, config });
});
afterEach(resetClock);
afterAll(async () => {
  await parley.stop();
  await other.stop();
  await server.database.end({ timeout: 1 });
  await issuer.stop();
});

const refused = { status: 401, code: "unauthorized" };
const me = (token: string, at = parley) => at.fetch("/api/v1/me", { token });
const idOf = async (token: string) => (await readJson<{ id: string }>(await me(token))).id;
const exchange = (token: string, at = parley) => at.fetch("/api/v1/auth/oidc", { json: { token } });
const listSessions = async (token: string) =>
  (await readJson<{ data: Session[] }>(await parley.fetch("/api/v1/me/sessions", { token }))).data;
const endCurrent = async (token: string) => {
  const current = (await listSessions(token)).find((session) => session.current);
  const answer = await parley.fetch(`/api/v1/me/sessions/${current?.id}`, { token, method: "DELETE" });
  expect(answer.status).toBe(204);
};
const encode = (token: string) => `base64url.bearer.${Buffer.from(token).toString("base64url")}`;

describe("a token of the issuer is accepted", () => {
  test("over REST, on streams and from OpenAI clients", async () => {
    const token = await issuer.sign();
    const conversation = await parley.fetch("/api/v1/conversations", { token, json: { title: "Mine" } });
    expect(conversation.status).toBe(201);
    const { id } = await readJson<{ id: string }>(conversation);
    const stream = await openStream(parley, `/conversations/${id}/events`, { token });
    await stream.close();
    expect((await parley.fetch("/v1/models", { token })).status).toBe(200);
    expect((await parley.fetch("/v1/models", { headers: { "x-api-key": token } })).status).toBe(200);
    const outsider = await issuer.sign();
    expect(await readProblem(await parley.fetch(`/api/v1/conversations/${id}`, { token: outsider }))).toEqual({
      status: 404,
      code: "not_found",
    });
  });

  test("on sockets: header, subprotocol, first frame, ticket", async () => {
    const claims = issuer.createClaims();
    const token = await issuer.sign(claims);
    const ticket = await parley.fetch("/api/v1/auth/ticket", { token, method: "POST" });
    const { ticket: text } = await readJson<{ ticket: string }>(ticket);
    const sockets = [
      await openSocket(parley.url, { token }),
      await openSocket(parley.url, { protocols: ["parley.v1", encode(token)] }),
      await openSocket(parley.url, { query: `?ticket=${text}` }),
      await openSocket(parley.url),
    ];
    sockets[3]?.send({ type: "auth", id: "a", token });
    for (const socket of sockets) {
      const ready = await socket.waitFor(({ type }) => type === "ready");
      expect(ready.user).toMatchObject({ email: claims.email });
    }
    const renewal = await issuer.sign({ ...claims, jti: "next", exp: Number(claims.exp) + 60 });
    const ack = await sockets[0]?.request({ type: "auth", token: renewal });
    expect(Date.parse(String(ack?.expires_at))).toBe((Number(claims.exp) + 90) * 1000);
    const foreign = await sockets[0]?.request({ type: "auth", token: await issuer.sign() });
    expect(foreign).toMatchObject({ type: "error", code: "forbidden" });
    for (const socket of sockets) await socket.close();
  });

  test("but not on sockets if it is invalid", async () => {
    const wrong = await issuer.sign({ aud: "somebody-else" });
    await expect(openSocket(parley.url, { token: wrong })).rejects.toThrow();
    await expect(openSocket(parley.url, { protocols: ["parley.v1", encode(wrong)] })).rejects.toThrow();
    const socket = await openSocket(parley.url);
    socket.send({ type: "auth", token: wrong });
    expect((await socket.closed).code).toBe(4501);
  });

  test("after a retry, if its key could not be fetched at first", async () => {
    // An instance without cached keys.
    const late = await startApp({ database: server, config: { OIDC_ISSUER: issuer.url, OIDC_AUDIENCE: AUDIENCE } });
    issuer.state.mode = "down";
    const token = await issuer.sign();
    const socket = await openSocket(late.url);
    expect(await socket.request({ type: "auth", token })).toMatchObject({ code: "unavailable", temporary: true });
    expect(await readProblem(await me(token, late))).toEqual({ status: 503, code: "unavailable" });
    issuer.state.mode = "good";
    const after = await late.register();
    expect(await socket.request({ type: "auth", token: after.access_token })).toMatchObject({ type: "ack" });
    await socket.close();
    await late.stop();
  });
});

describe("the session of a token", () => {
  test("is listed once, separately from an exchanged session", async () => {
    const token = await issuer.sign();
    const tokens = await readJson<Tokens>(await exchange(token));
    await me(token);
    await me(token, other);
    expect((await listSessions(token)).map(({ current }) => current)).toEqual([true, false]);
    expect((await listSessions(tokens.access_token)).map(({ current }) => current)).toEqual([false, true]);
  });

  test("ends with its sockets on all instances; another token of the same user stays valid", async () => {
    const claims = issuer.createClaims();
    const token = await issuer.sign(claims);
    const second = await issuer.sign({ ...claims, jti: "second" });
    await me(token, other);
    const here = await openSocket(parley.url, { token });
    const there = await openSocket(other.url, { token });
    const stays = await openSocket(other.url, { token: second });
    const startedAt = performance.now();
    await endCurrent(token);
    for (const socket of [here, there]) expect((await socket.closed).code).toBe(4506);
    expect(performance.now() - startedAt).toBeLessThan(2_000);
    stays.send({ type: "ping", id: "p" });
    await stays.waitFor(({ type }) => type === "pong");
    advanceClock(IDENTITY_CACHE_MS);
    for (const at of [parley, other]) {
      expect(await readProblem(await me(token, at))).toEqual(refused);
      expect(await readProblem(await exchange(token, at))).toEqual(refused);
      expect((await me(second, at)).status).toBe(200);
    }
    await expect(openSocket(parley.url, { token })).rejects.toThrow();
    await stays.close();
  });

  test("isn't revived by a different signature of the same token", async () => {
    const key = await issuer.addKey("ES256");
    const late = await startApp({ database: server, config: { OIDC_ISSUER: issuer.url, OIDC_AUDIENCE: AUDIENCE } });
    const token = await issuer.sign({}, { key });
    const twin = mirrorSignature(token);
    expect(twin).not.toBe(token);
    expect((await me(token, late)).status).toBe(200);
    expect((await me(twin, late)).status).toBe(200);
    expect(
      (
        await server.database`select 1 from sessions where user_id = ${(await readJson<{ id: string }>(await me(twin, late))).id}`
      ).length,
    ).toBe(1);
    const [session] = (await readJson<{ data: Session[] }>(await late.fetch("/api/v1/me/sessions", { token }))).data;
    await late.fetch(`/api/v1/me/sessions/${session?.id}`, { token, method: "DELETE" });
    for (const ended of [token, twin, mirrorSignature(twin)]) {
      expect(await readProblem(await me(ended, late))).toEqual(refused);
      expect(await readProblem(await exchange(ended, late))).toEqual(refused);
    }
    await late.stop();
  });

  test("opened by exchange, once ended, invalidates the token", async () => {
    const token = await issuer.sign();
    const tokens = await readJson<Tokens>(await exchange(token));
    expect((await exchange(token)).status).toBe(200);
    await parley.fetch("/api/v1/auth/logout", { json: { refresh_token: tokens.refresh_token } });
    expect(await readProblem(await exchange(token))).toEqual(refused);
    expect(await readProblem(await me(token))).toEqual(refused);
  });

  test("survives the sweep of old sessions as long as the token is valid", async () => {
    const claims: JWTPayload = issuer.createClaims();
    const token = await issuer.sign({ ...claims, exp: Math.floor(Date.now() / 1000) + 10 * 24 * 3600 });
    const userId = await idOf(token);
    const exchanged = await readJson<Tokens>(await exchange(token));
    await endCurrent(token);
    await endCurrent(exchanged.access_token);
    await server.database`update sessions set revoked_at = now() - interval '9 days' where user_id = ${userId}`;
    const sweep = async () => {
      const { deleteOldSessions } = await import("../../src/modules/auth/queries.ts");
      await deleteOldSessions(server.database, 24 * 3600);
      return Number((await server.database`select count(*) as n from sessions where user_id = ${userId}`)[0]?.n);
    };
    expect(await sweep()).toBe(2);
    const late = await startApp({ database: server, config: { OIDC_ISSUER: issuer.url, OIDC_AUDIENCE: AUDIENCE } });
    expect(await readProblem(await me(token, late))).toEqual(refused);
    expect(await readProblem(await exchange(token, late))).toEqual(refused);
    await late.stop();
    await server.database`update sessions set token_expires_at = now() - interval '1 second' where user_id = ${userId}`;
    expect(await sweep()).toBe(0);
  });

  test("can't be refreshed, since a refresh token can't be derived from it", async () => {
    const { createRefreshTokens } = await import("../../src/modules/auth/refresh-tokens.ts");
    const token = await issuer.sign();
    const [session] = await listSessions(token);
    for (const refreshKey of [Buffer.alloc(0), Buffer.alloc(32)]) {
      const forged = createRefreshTokens("a secret that only tests know: 0123456789");
      const refresh_token = forged.create({ sessionId: String(session?.id), generation: 0, refreshKey });
      expect(await readProblem(await parley.fetch("/api/v1/auth/refresh", { json: { refresh_token } }))).toEqual(
        refused,
      );
    }
    expect((await me(token)).status).toBe(200);
  });

  test("ends when a linked account changes its password", async () => {
    const local = await parley.register();
    const token = await issuer.sign();
    const json = { token, password: TEST_PASSWORD };
    const link = await parley.fetch("/api/v1/me/identities", { token: local.access_token, json });
    expect(link.status).toBe(201);
    expect(await idOf(token)).toBe(local.user.id);
    const change = { current_password: TEST_PASSWORD, new_password: "another password" };
    await parley.fetch("/api/v1/me/password", { token: local.access_token, json: change });
    expect(await readProblem(await me(token))).toEqual(refused);
    expect((await me(local.access_token)).status).toBe(200);
  });
});

describe("a user without access", () => {
  test("can't log in with any token, old or new, when disabled", async () => {
    const claims = issuer.createClaims();
    const token = await issuer.sign(claims);
    const userId = await idOf(token);
    const socket = await openSocket(parley.url, { token });
    await server.database`update users set disabled_at = now() where id = ${userId}`;
    expect((await socket.closed).code).toBe(4506);
    advanceClock(IDENTITY_CACHE_MS);
    const next = await issuer.sign({ ...claims, jti: "next" });
    for (const attempt of [token, next]) {
      expect(await readProblem(await me(attempt))).toEqual(refused);
      expect(await readProblem(await exchange(attempt))).toEqual({ status: 403, code: "forbidden" });
    }
    const refusals = await server.database`
      select details ->> 'reason' as reason from audit_events
      where target_id = ${userId} and action = 'user.login_failed'`;
    expect(refusals.map(({ reason }) => reason)).toEqual(["disabled", "disabled"]);
  });

  test("can only log in with a new token, as a new user, after deleting the account", async () => {
    const claims = issuer.createClaims();
    const bearer = await issuer.sign(claims);
    const exchanged = await issuer.sign({ ...claims, jti: "exchanged" });
    const userId = await idOf(bearer);
    await exchange(exchanged);
    const deletion = await parley.fetch("/api/v1/me", { token: bearer, method: "DELETE" });
    expect(deletion.status).toBe(204);
    expect((await server.database`select 1 from identities where user_id = ${userId}`).length).toBe(0);
    for (const token of [bearer, exchanged]) {
      for (const at of [parley, other]) {
        expect(await readProblem(await exchange(token, at))).toEqual(refused);
        advanceClock(IDENTITY_CACHE_MS);
        expect(await readProblem(await me(token, at))).toEqual(refused);
      }
    }
    const count = () => server.database`select 1 from users where email_key = ${String(claims.email)}`;
    expect((await count()).length).toBe(0);
    const again = await issuer.sign({ ...claims, jti: "again" });
    expect(await idOf(again)).not.toBe(userId);
  });
});

const P256_ORDER = 0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551n;

/** The other ECDSA signature that is valid for the same text: (r, n − s). */
function mirrorSignature(token: string): string {
  const [head, body, signature = ""] = token.split(".");
  const bytes = Buffer.from(signature, "base64url");
  const s = BigInt(`0x${bytes.subarray(32).toString("hex")}`);
  const mirrored = Buffer.from((P256_ORDER - s).toString(16).padStart(64, "0"), "hex");
  return `${head}.${body}.${Buffer.concat([bytes.subarray(0, 32), mirrored]).toString("base64url")}`;
}
