import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import type { JWTPayload } from "jose";
import { IDENTITY_CACHE_MS } from "../../src/modules/auth/limits.ts";
import type { Session, Tokens } from "../../src/modules/auth/model.ts";
import { startApp, TEST_PASSWORD, type TestApp } from "../support/app.ts";
import { openStream } from "../support/event-stream.ts";
import { createTestDatabase } from "../support/postgres.ts";
import { openSocket } from "../support/socket.ts";
import { advanceClock, resetClock } from "../support/test-clock.ts";
import { readJson, readProblem } from "./start-accounts.ts";
import { AUDIENCE, type Issuer, startIssuer } from "./start-issuer.ts";

let issuer: Issuer;
let parley: TestApp;
let otherInstance: TestApp;
let sharedDatabase: Awaited<ReturnType<typeof createTestDatabase>>;
beforeAll(async () => {
  issuer = await startIssuer();
  sharedDatabase = await createTestDatabase();
  const config = { OIDC_ISSUER: issuer.url, OIDC_AUDIENCE: AUDIENCE };
  parley = await startApp({ database: sharedDatabase, config });
  otherInstance = await startApp({ database: sharedDatabase, config });
});
afterEach(resetClock);
afterAll(async () => {
  await parley.stop();
  await otherInstance.stop();
  await sharedDatabase.database.end({ timeout: 1 });
  await issuer.stop();
});

const unauthorized = { status: 401, code: "unauthorized" };
const fetchMe = (token: string, instance = parley) => instance.fetch("/api/v1/me", { token });
const fetchUserId = async (token: string) => (await readJson<{ id: string }>(await fetchMe(token))).id;
const exchangeToken = (token: string, instance = parley) => instance.fetch("/api/v1/auth/oidc", { json: { token } });
const listSessions = async (token: string) =>
  (await readJson<{ data: Session[] }>(await parley.fetch("/api/v1/me/sessions", { token }))).data;
const revokeCurrentSession = async (token: string) => {
  const currentSession = (await listSessions(token)).find((session) => session.current);
  const response = await parley.fetch(`/api/v1/me/sessions/${currentSession?.id}`, { token, method: "DELETE" });
  expect(response.status).toBe(204);
};
const encodeSubprotocol = (token: string) => `base64url.bearer.${Buffer.from(token).toString("base64url")}`;

describe("an issuer's token", () => {
  test("is accepted over REST, on streams and from OpenAI clients", async () => {
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

  test("is accepted on sockets, by header, subprotocol, first frame or ticket", async () => {
    const claims = issuer.createClaims();
    const token = await issuer.sign(claims);
    const ticketResponse = await parley.fetch("/api/v1/auth/ticket", { token, method: "POST" });
    const { ticket } = await readJson<{ ticket: string }>(ticketResponse);
    const sockets = [
      await openSocket(parley.url, { token }),
      await openSocket(parley.url, { protocols: ["parley.v1", encodeSubprotocol(token)] }),
      await openSocket(parley.url, { query: `?ticket=${ticket}` }),
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
    const rejection = await sockets[0]?.request({ type: "auth", token: await issuer.sign() });
    expect(rejection).toMatchObject({ type: "error", code: "forbidden" });
    for (const socket of sockets) await socket.close();
  });

  test("is rejected on sockets if it is invalid", async () => {
    const invalidToken = await issuer.sign({ aud: "somebody-else" });
    await expect(openSocket(parley.url, { token: invalidToken })).rejects.toThrow();
    await expect(
      openSocket(parley.url, { protocols: ["parley.v1", encodeSubprotocol(invalidToken)] }),
    ).rejects.toThrow();
    const socket = await openSocket(parley.url);
    socket.send({ type: "auth", token: invalidToken });
    expect((await socket.closed).code).toBe(4501);
  });

  test("causes a temporary error if its key can't be fetched, and the socket stays open", async () => {
    // This instance has no cached keys.
    const newInstance = await startApp({
      database: sharedDatabase,
      config: { OIDC_ISSUER: issuer.url, OIDC_AUDIENCE: AUDIENCE },
    });
    issuer.state.mode = "down";
    const token = await issuer.sign();
    const socket = await openSocket(newInstance.url);
    expect(await socket.request({ type: "auth", token })).toMatchObject({ code: "unavailable", temporary: true });
    expect(await readProblem(await fetchMe(token, newInstance))).toEqual({ status: 503, code: "unavailable" });
    issuer.state.mode = "working";
    const registeredTokens = await newInstance.register();
    expect(await socket.request({ type: "auth", token: registeredTokens.access_token })).toMatchObject({ type: "ack" });
    await socket.close();
    await newInstance.stop();
  });
});

describe("the session of an issuer's token", () => {
  test("is listed once, separately from an exchanged session", async () => {
    const token = await issuer.sign();
    const tokens = await readJson<Tokens>(await exchangeToken(token));
    await fetchMe(token);
    await fetchMe(token, otherInstance);
    expect((await listSessions(token)).map(({ current }) => current)).toEqual([true, false]);
    expect((await listSessions(tokens.access_token)).map(({ current }) => current)).toEqual([false, true]);
  });

  test("can be revoked on all instances without affecting another token of the same user", async () => {
    const claims = issuer.createClaims();
    const token = await issuer.sign(claims);
    const secondToken = await issuer.sign({ ...claims, jti: "second" });
    await fetchMe(token, otherInstance);
    const firstSocket = await openSocket(parley.url, { token });
    const otherSocket = await openSocket(otherInstance.url, { token });
    const unaffectedSocket = await openSocket(otherInstance.url, { token: secondToken });
    const startedAtMs = performance.now();
    await revokeCurrentSession(token);
    for (const socket of [firstSocket, otherSocket]) expect((await socket.closed).code).toBe(4506);
    expect(performance.now() - startedAtMs).toBeLessThan(2_000);
    unaffectedSocket.send({ type: "ping", id: "p" });
    await unaffectedSocket.waitFor(({ type }) => type === "pong");
    advanceClock(IDENTITY_CACHE_MS);
    for (const instance of [parley, otherInstance]) {
      expect(await readProblem(await fetchMe(token, instance))).toEqual(unauthorized);
      expect(await readProblem(await exchangeToken(token, instance))).toEqual(unauthorized);
      expect((await fetchMe(secondToken, instance)).status).toBe(200);
    }
    await expect(openSocket(parley.url, { token })).rejects.toThrow();
    await unaffectedSocket.close();
  });

  test("is the same for both valid ECDSA signatures of the token, which are rejected once the session is revoked", async () => {
    const key = await issuer.addKey("ES256");
    const newInstance = await startApp({
      database: sharedDatabase,
      config: { OIDC_ISSUER: issuer.url, OIDC_AUDIENCE: AUDIENCE },
    });
    const token = await issuer.sign({}, { key });
    const mirroredToken = mirrorSignature(token);
    expect(mirroredToken).not.toBe(token);
    expect((await fetchMe(token, newInstance)).status).toBe(200);
    expect((await fetchMe(mirroredToken, newInstance)).status).toBe(200);
    expect(
      (
        await sharedDatabase.database`select 1 from sessions where user_id = ${(await readJson<{ id: string }>(await fetchMe(mirroredToken, newInstance))).id}`
      ).length,
    ).toBe(1);
    const [session] = (await readJson<{ data: Session[] }>(await newInstance.fetch("/api/v1/me/sessions", { token })))
      .data;
    await newInstance.fetch(`/api/v1/me/sessions/${session?.id}`, { token, method: "DELETE" });
    for (const revokedToken of [token, mirroredToken, mirrorSignature(mirroredToken)]) {
      expect(await readProblem(await fetchMe(revokedToken, newInstance))).toEqual(unauthorized);
      expect(await readProblem(await exchangeToken(revokedToken, newInstance))).toEqual(unauthorized);
    }
    await newInstance.stop();
  });

  test("invalidates the token that was exchanged for it when it is revoked", async () => {
    const token = await issuer.sign();
    const tokens = await readJson<Tokens>(await exchangeToken(token));
    expect((await exchangeToken(token)).status).toBe(200);
    await parley.fetch("/api/v1/auth/logout", { json: { refresh_token: tokens.refresh_token } });
    expect(await readProblem(await exchangeToken(token))).toEqual(unauthorized);
    expect(await readProblem(await fetchMe(token))).toEqual(unauthorized);
  });

  test("isn't deleted by the sweep while the token is valid", async () => {
    const claims: JWTPayload = issuer.createClaims();
    const token = await issuer.sign({ ...claims, exp: Math.floor(Date.now() / 1000) + 10 * 24 * 3600 });
    const userId = await fetchUserId(token);
    const exchangedTokens = await readJson<Tokens>(await exchangeToken(token));
    await revokeCurrentSession(token);
    await revokeCurrentSession(exchangedTokens.access_token);
    await sharedDatabase.database`update sessions set revoked_at = now() - interval '9 days' where user_id = ${userId}`;
    const sweepAndCountSessions = async () => {
      const { deleteOldSessions } = await import("../../src/modules/auth/queries.ts");
      await deleteOldSessions(sharedDatabase.database, 24 * 3600);
      return Number(
        (await sharedDatabase.database`select count(*) as n from sessions where user_id = ${userId}`)[0]?.n,
      );
    };
    expect(await sweepAndCountSessions()).toBe(2);
    const newInstance = await startApp({
      database: sharedDatabase,
      config: { OIDC_ISSUER: issuer.url, OIDC_AUDIENCE: AUDIENCE },
    });
    expect(await readProblem(await fetchMe(token, newInstance))).toEqual(unauthorized);
    expect(await readProblem(await exchangeToken(token, newInstance))).toEqual(unauthorized);
    await newInstance.stop();
    await sharedDatabase.database`update sessions set token_expires_at = now() - interval '1 second' where user_id = ${userId}`;
    expect(await sweepAndCountSessions()).toBe(0);
  });

  test("can't be refreshed", async () => {
    const { createRefreshTokenSigner } = await import("../../src/modules/auth/refresh-tokens.ts");
    const token = await issuer.sign();
    const [session] = await listSessions(token);
    for (const refreshKey of [Buffer.alloc(0), Buffer.alloc(32)]) {
      const forgedTokens = createRefreshTokenSigner("a secret that only tests know: 0123456789");
      const refresh_token = forgedTokens.create({ sessionId: String(session?.id), generation: 0, refreshKey });
      expect(await readProblem(await parley.fetch("/api/v1/auth/refresh", { json: { refresh_token } }))).toEqual(
        unauthorized,
      );
    }
    expect((await fetchMe(token)).status).toBe(200);
  });

  test("is revoked when a linked account changes its password", async () => {
    const localAccount = await parley.register();
    const token = await issuer.sign();
    const json = { token, password: TEST_PASSWORD };
    const linkResponse = await parley.fetch("/api/v1/me/identities", { token: localAccount.access_token, json });
    expect(linkResponse.status).toBe(201);
    expect(await fetchUserId(token)).toBe(localAccount.user.id);
    const passwordChange = { current_password: TEST_PASSWORD, new_password: "another password" };
    await parley.fetch("/api/v1/me/password", { token: localAccount.access_token, json: passwordChange });
    expect(await readProblem(await fetchMe(token))).toEqual(unauthorized);
    expect((await fetchMe(localAccount.access_token)).status).toBe(200);
  });
});

describe("a user without access", () => {
  test("can't log in with any token if the account is disabled", async () => {
    const claims = issuer.createClaims();
    const token = await issuer.sign(claims);
    const userId = await fetchUserId(token);
    const socket = await openSocket(parley.url, { token });
    await sharedDatabase.database`update users set disabled_at = now() where id = ${userId}`;
    expect((await socket.closed).code).toBe(4506);
    advanceClock(IDENTITY_CACHE_MS);
    const newToken = await issuer.sign({ ...claims, jti: "next" });
    for (const attempt of [token, newToken]) {
      expect(await readProblem(await fetchMe(attempt))).toEqual(unauthorized);
      expect(await readProblem(await exchangeToken(attempt))).toEqual({ status: 403, code: "forbidden" });
    }
    const rejections = await sharedDatabase.database`
      select details ->> 'reason' as reason from audit_events
      where target_id = ${userId} and action = 'user.login_failed'`;
    expect(rejections.map(({ reason }) => reason)).toEqual(["disabled", "disabled"]);
  });

  test("can log in only as a new user, with a new token, if the account was deleted", async () => {
    const claims = issuer.createClaims();
    const bearerToken = await issuer.sign(claims);
    const exchangedToken = await issuer.sign({ ...claims, jti: "exchanged" });
    const userId = await fetchUserId(bearerToken);
    await exchangeToken(exchangedToken);
    const deletion = await parley.fetch("/api/v1/me", { token: bearerToken, method: "DELETE" });
    expect(deletion.status).toBe(204);
    expect((await sharedDatabase.database`select 1 from identities where user_id = ${userId}`).length).toBe(0);
    for (const token of [bearerToken, exchangedToken]) {
      for (const instance of [parley, otherInstance]) {
        expect(await readProblem(await exchangeToken(token, instance))).toEqual(unauthorized);
        advanceClock(IDENTITY_CACHE_MS);
        expect(await readProblem(await fetchMe(token, instance))).toEqual(unauthorized);
      }
    }
    const findUsers = () => sharedDatabase.database`select 1 from users where email_key = ${String(claims.email)}`;
    expect((await findUsers()).length).toBe(0);
    const newToken = await issuer.sign({ ...claims, jti: "again" });
    expect(await fetchUserId(newToken)).not.toBe(userId);
  });
});

const P256_ORDER = 0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551n;

/** Replaces a token's ECDSA signature (r, s) with the other valid one, (r, n − s). */
function mirrorSignature(token: string): string {
  const [head, body, signature = ""] = token.split(".");
  const bytes = Buffer.from(signature, "base64url");
  const s = BigInt(`0x${bytes.subarray(32).toString("hex")}`);
  const mirroredS = Buffer.from((P256_ORDER - s).toString(16).padStart(64, "0"), "hex");
  return `${head}.${body}.${Buffer.concat([bytes.subarray(0, 32), mirroredS]).toString("base64url")}`;
}
