import { afterAll, afterEach, beforeAll, expect, test } from "bun:test";
import { createHmac } from "node:crypto";
import { IDENTITY_CACHE_MS } from "../../src/modules/auth/limits.ts";
import { unknownOrigin } from "../support/request-origin.ts";
import { advanceClock, resetClock } from "../support/test-clock.ts";
import { type Accounts, JWT_SECRET, readProblem, startAccounts } from "./start-accounts.ts";

let accounts: Accounts;
beforeAll(async () => {
  accounts = await startAccounts();
});
afterEach(resetClock);
afterAll(() => accounts.stop());

type JsonObject = Record<string, unknown>;
const encodeJson = (part: JsonObject) => Buffer.from(JSON.stringify(part)).toString("base64url");
const decodeJson = (part = ""): JsonObject => JSON.parse(Buffer.from(part, "base64url").toString()) as JsonObject;
function forgeToken(header: JsonObject, payload: JsonObject, secret: string, hash = "sha256"): string {
  const signedPart = `${encodeJson(header)}.${encodeJson(payload)}`;
  return `${signedPart}.${createHmac(hash, secret).update(signedPart).digest("base64url")}`;
}
const unauthorized = { status: 401, code: "unauthorized" };
const fetchMe = (token: string) => accounts.sendRequest("/me", { token });

test("an access token contains the user, session, times and issuer, and is signed with HS256", async () => {
  const { access_token, user } = await accounts.register();
  const [header, payload] = access_token.split(".");
  expect(decodeJson(header).alg).toBe("HS256");
  const claims = decodeJson(payload);
  expect(Object.keys(claims).sort()).toEqual(["exp", "iat", "iss", "sid", "sub"]);
  expect(claims).toMatchObject({ sub: user.id, iss: "parley" });
  expect(Number(claims.exp) - Number(claims.iat)).toBeGreaterThanOrEqual(899);
  expect(Number(claims.exp) - Number(claims.iat)).toBeLessThanOrEqual(900);
});

test("a token forged with the correct secret is valid, which proves that the tokens below fail for the stated reasons", async () => {
  const { access_token } = await accounts.register();
  const [header, payload] = access_token.split(".");
  expect((await fetchMe(forgeToken(decodeJson(header), decodeJson(payload), JWT_SECRET))).status).toBe(200);
});

test("a token with an invalid algorithm, key, claim or time is rejected", async () => {
  const { access_token } = await accounts.register();
  const otherTokens = await accounts.register();
  const [head, body, signature] = access_token.split(".");
  const header = decodeJson(head);
  const payload = decodeJson(body);
  const now = Math.floor(Date.now() / 1000);
  const { exp: _exp, ...withoutExpiry } = payload;
  const { iss: _iss, ...withoutIssuer } = payload;
  const { sid: _sid, ...withoutSession } = payload;
  const cases: Record<string, string> = {
    "alg none": `${encodeJson({ ...header, alg: "none" })}.${body}.`,
    "alg none with a signature": `${encodeJson({ ...header, alg: "none" })}.${body}.${signature}`,
    "HS512 with the correct secret": forgeToken({ ...header, alg: "HS512" }, payload, JWT_SECRET, "sha512"),
    "HS512 with a different secret": forgeToken({ ...header, alg: "HS512" }, payload, "x".repeat(64), "sha512"),
    "a different secret": forgeToken(header, payload, "x".repeat(64)),
    "empty secret": forgeToken(header, payload, ""),
    "changed payload": `${head}.${encodeJson({ ...payload, sub: otherTokens.user.id })}.${signature}`,
    "truncated signature": access_token.slice(0, -2),
    "no signature": `${head}.${body}.`,
    "another user's id with a valid signature": forgeToken(
      header,
      { ...payload, sub: otherTokens.user.id },
      JWT_SECRET,
    ),
    "an unknown session": forgeToken(header, { ...payload, sid: otherTokens.user.id }, JWT_SECRET),
    "a malformed session id": forgeToken(header, { ...payload, sid: "x" }, JWT_SECRET),
    "no session": forgeToken(header, withoutSession, JWT_SECRET),
    expired: forgeToken(header, { ...payload, exp: now - 1 }, JWT_SECRET),
    "no expiry": forgeToken(header, withoutExpiry, JWT_SECRET),
    "not yet valid": forgeToken(header, { ...payload, nbf: now + 60 }, JWT_SECRET),
    "a different issuer": forgeToken(header, { ...payload, iss: "somebody" }, JWT_SECRET),
    "no issuer": forgeToken(header, withoutIssuer, JWT_SECRET),
    "longer than any token that Parley issues": forgeToken(header, { ...payload, more: "x".repeat(2000) }, JWT_SECRET),
    "not a token": "x",
    "a refresh token": otherTokens.refresh_token,
  };
  for (const [name, token] of Object.entries(cases))
    expect({ name, ...(await readProblem(await fetchMe(token))) }).toEqual({ name, ...unauthorized });
  expect((await fetchMe(access_token)).status).toBe(200);
});

test("a token is rejected as soon as it expires", async () => {
  const { access_token } = await accounts.register();
  const [header, payload] = access_token.split(".");
  const exp = Math.floor(Date.now() / 1000) + 60;
  const token = forgeToken(decodeJson(header), { ...decodeJson(payload), exp }, JWT_SECRET);
  expect((await fetchMe(token)).status).toBe(200);
  advanceClock(exp * 1000 - Date.now());
  expect(await readProblem(await fetchMe(token))).toEqual(unauthorized);
});

test("a disabled user and a revoked session are rejected within a second, on every instance", async () => {
  const otherInstance = await startAccounts({ database: accounts.database });
  const { access_token, user, refresh_token } = await accounts.register();
  const secondLogin = await accounts.login(user.email);
  for (const token of [access_token, secondLogin.access_token])
    expect((await otherInstance.sendRequest("/me", { token })).status).toBe(200);

  await accounts.sendRequest("/auth/logout", { json: { refresh_token: secondLogin.refresh_token } });
  await accounts.database`update users set disabled_at = now() where id = ${(await accounts.register()).user.id}`;
  advanceClock(IDENTITY_CACHE_MS);
  expect(await readProblem(await otherInstance.sendRequest("/me", { token: secondLogin.access_token }))).toEqual(
    unauthorized,
  );
  expect((await otherInstance.sendRequest("/me", { token: access_token })).status).toBe(200);

  await accounts.database`update users set disabled_at = now() where id = ${user.id}`;
  advanceClock(IDENTITY_CACHE_MS);
  expect(await readProblem(await otherInstance.sendRequest("/me", { token: access_token }))).toEqual(unauthorized);
  expect(await readProblem(await accounts.sendRequest("/auth/refresh", { json: { refresh_token } }))).toEqual(
    unauthorized,
  );
  await otherInstance.stop();
});

test("identify returns the user, the session and the token's expiry", async () => {
  const { access_token, user } = await accounts.register();
  const caller = await accounts.auth.identify(access_token, unknownOrigin);
  const { sid, exp } = decodeJson(access_token.split(".")[1]);
  expect(caller).toEqual({
    user: {
      id: user.id,
      email: user.email,
      display_name: user.display_name,
      role: "user",
      created_at: new Date(user.created_at),
    },
    credentialId: String(sid),
    scopes: null,
    expiresAtMs: Number(exp) * 1000,
    ipAddress: null,
  });
});
