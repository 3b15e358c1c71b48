import { afterAll, beforeAll, expect, test } from "bun:test";
import type { Tokens } from "../../src/modules/auth/model.ts";
import { createRefreshTokenSigner } from "../../src/modules/auth/refresh-tokens.ts";
import { type Accounts, JWT_SECRET, readJson, readProblem, startAccounts } from "./start-accounts.ts";

let accounts: Accounts;
beforeAll(async () => {
  accounts = await startAccounts();
});
afterAll(() => accounts.stop());

const postRefresh = (refresh_token: string) => accounts.sendRequest("/auth/refresh", { json: { refresh_token } });
const refreshTokens = async (token: string) => readJson<Tokens>(await postRefresh(token));
const findSessionId = (token: string) => createRefreshTokenSigner(JWT_SECRET).parse(token)?.sessionId ?? "";
/** Backdates the last refresh of a token's session. */
const backdateRefresh = (token: string, seconds: number) =>
  accounts.database`update sessions set rotated_at = rotated_at - make_interval(secs => ${seconds}::float8) where id = ${findSessionId(token)}`;

const unauthorized = { status: 401, code: "unauthorized" };
const tokenReused = { status: 401, code: "token_reused" };

test("a refresh returns a new pair of valid tokens for the same session", async () => {
  const firstTokens = await accounts.register();
  const secondTokens = await refreshTokens(firstTokens.refresh_token);
  expect(secondTokens.user).toEqual(firstTokens.user);
  expect(secondTokens.refresh_token).not.toBe(firstTokens.refresh_token);
  expect(findSessionId(secondTokens.refresh_token)).toBe(findSessionId(firstTokens.refresh_token));
  expect((await accounts.sendRequest("/me", { token: secondTokens.access_token })).status).toBe(200);
  const thirdTokens = await refreshTokens(secondTokens.refresh_token);
  expect((await accounts.sendRequest("/me", { token: thirdTokens.access_token })).status).toBe(200);
});

test("reusing the previous refresh token within 10 s returns the same new token", async () => {
  const firstTokens = await accounts.register();
  const secondTokens = await refreshTokens(firstTokens.refresh_token);
  await backdateRefresh(firstTokens.refresh_token, 9);
  const repeatedTokens = await refreshTokens(firstTokens.refresh_token);
  expect(repeatedTokens.refresh_token).toBe(secondTokens.refresh_token);
  expect((await accounts.sendRequest("/me", { token: repeatedTokens.access_token })).status).toBe(200);
  expect((await refreshTokens(secondTokens.refresh_token)).refresh_token).not.toBe(secondTokens.refresh_token);
});

test("reusing the previous refresh token after 10 s revokes the session", async () => {
  const firstTokens = await accounts.register();
  const secondTokens = await refreshTokens(firstTokens.refresh_token);
  await backdateRefresh(firstTokens.refresh_token, 11);
  accounts.endedSessions.length = 0;
  expect(await readProblem(await postRefresh(firstTokens.refresh_token))).toEqual(tokenReused);
  expect(accounts.endedSessions).toEqual([{ ids: [findSessionId(firstTokens.refresh_token)], reason: "token_reused" }]);
  expect(await readProblem(await postRefresh(secondTokens.refresh_token))).toEqual(unauthorized);
  expect(await readProblem(await accounts.sendRequest("/me", { token: secondTokens.access_token }))).toEqual(
    unauthorized,
  );
});

test("reusing an older refresh token revokes its session even within 10 s, but no other session", async () => {
  const firstTokens = await accounts.register();
  const otherTokens = await accounts.login(firstTokens.user.email);
  const secondTokens = await refreshTokens(firstTokens.refresh_token);
  const thirdTokens = await refreshTokens(secondTokens.refresh_token);
  expect(await readProblem(await postRefresh(firstTokens.refresh_token))).toEqual(tokenReused);
  expect(await readProblem(await postRefresh(thirdTokens.refresh_token))).toEqual(unauthorized);
  expect((await postRefresh(otherTokens.refresh_token)).status).toBe(200);
});

test("a session that is revoked because a token was reused is reported only once", async () => {
  const firstTokens = await accounts.register();
  await refreshTokens((await refreshTokens(firstTokens.refresh_token)).refresh_token);
  accounts.endedSessions.length = 0;
  const responses = await Promise.all(Array.from({ length: 8 }, () => postRefresh(firstTokens.refresh_token)));
  expect(new Set(responses.map(({ status }) => status))).toEqual(new Set([401]));
  expect(accounts.endedSessions).toHaveLength(1);
});

test("16 concurrent refreshes rotate the token once and return the same new token", async () => {
  const firstTokens = await accounts.register();
  const responses = await Promise.all(Array.from({ length: 16 }, () => postRefresh(firstTokens.refresh_token)));
  expect(responses.map(({ status }) => status)).toEqual(Array(16).fill(200));
  const tokens = await Promise.all(responses.map((response) => readJson<Tokens>(response)));
  expect(new Set(tokens.map(({ refresh_token }) => refresh_token)).size).toBe(1);
  const [row] =
    await accounts.database`select generation from sessions where id = ${findSessionId(firstTokens.refresh_token)}`;
  expect(row?.generation).toBe(1);
  expect((await postRefresh(tokens[0]?.refresh_token ?? "")).status).toBe(200);
});

test("a token with a changed bit is rejected without revoking the session", async () => {
  const { refresh_token } = await accounts.register();
  const encodedToken = refresh_token.slice(4);
  const bytes = Buffer.from(encodedToken, "base64url");
  const forgedTokens = [0, 15, 16, 19, 20, 51].map((index) => {
    const forgedBytes = Buffer.from(bytes);
    forgedBytes[index] = (forgedBytes[index] ?? 0) ^ 1;
    return `prt_${forgedBytes.toString("base64url")}`;
  });
  // The last character has four unused bits, so a different character can encode the same bytes.
  const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
  const respelledToken = `prt_${encodedToken.slice(0, -1)}${alphabet[alphabet.indexOf(encodedToken.at(-1) ?? "") + 1]}`;
  for (const token of [
    ...forgedTokens,
    respelledToken,
    `${refresh_token}A`,
    refresh_token.slice(0, -1),
    encodedToken,
    "prt_",
    "x",
    `${refresh_token}\n`,
  ])
    expect(await readProblem(await postRefresh(token))).toEqual(unauthorized);
  expect((await postRefresh(refresh_token)).status).toBe(200);
});

test("a forged older token doesn't revoke the session", async () => {
  const firstTokens = await accounts.register();
  const secondTokens = await refreshTokens(firstTokens.refresh_token);
  const thirdTokens = await refreshTokens(secondTokens.refresh_token);
  const forgedToken = createRefreshTokenSigner("another secret, which is just as long").create({
    sessionId: findSessionId(firstTokens.refresh_token),
    generation: 0,
    refreshKey: Buffer.alloc(32),
  });
  expect(await readProblem(await postRefresh(forgedToken))).toEqual(unauthorized);
  expect((await postRefresh(thirdTokens.refresh_token)).status).toBe(200);
});

test("neither the server's secret nor a copy of the database is enough to forge a token", async () => {
  const { refresh_token } = await accounts.register();
  const sessionId = findSessionId(refresh_token);
  const [row] = await accounts.database<
    { refresh_key: Uint8Array }[]
  >`select refresh_key from sessions where id = ${sessionId}`;
  const refreshKey = row?.refresh_key ?? Buffer.alloc(0);
  const tokenWithSecretOnly = createRefreshTokenSigner(JWT_SECRET).create({
    sessionId,
    generation: 0,
    refreshKey: Buffer.alloc(32),
  });
  const tokenWithRowOnly = createRefreshTokenSigner("not the secret").create({ sessionId, generation: 0, refreshKey });
  for (const token of [tokenWithSecretOnly, tokenWithRowOnly])
    expect(await readProblem(await postRefresh(token))).toEqual(unauthorized);
  expect(createRefreshTokenSigner(JWT_SECRET).create({ sessionId, generation: 0, refreshKey })).toBe(refresh_token);
});

test("a token newer than a restored database is rejected without revoking the session", async () => {
  const firstTokens = await accounts.register();
  const secondTokens = await refreshTokens(firstTokens.refresh_token);
  await accounts.database`update sessions set generation = 0 where id = ${findSessionId(firstTokens.refresh_token)}`;
  expect(await readProblem(await postRefresh(secondTokens.refresh_token))).toEqual(unauthorized);
  expect((await postRefresh(firstTokens.refresh_token)).status).toBe(200);
});

test("a session expires after 30 days without use, and after 90 days at the latest", async () => {
  const { refresh_token } = await accounts.register();
  const id = findSessionId(refresh_token);
  const countDays = async () => {
    const [row] = await accounts.database<{ days: number }[]>`
      select round(extract(epoch from expires_at - now()) / 86400)::int as days from sessions where id = ${id}`;
    return row?.days;
  };
  expect(await countDays()).toBe(30);
  await accounts.database`update sessions set created_at = now() - interval '80 days' where id = ${id}`;
  const secondTokens = await refreshTokens(refresh_token);
  expect(await countDays()).toBe(10);
  await accounts.database`update sessions set expires_at = now() where id = ${id}`;
  expect(await readProblem(await postRefresh(secondTokens.refresh_token))).toEqual(unauthorized);
});

test("a disabled user receives no new tokens", async () => {
  const { user, refresh_token } = await accounts.register();
  await accounts.database`update users set disabled_at = now() where id = ${user.id}`;
  expect(await readProblem(await postRefresh(refresh_token))).toEqual(unauthorized);
});

test("logging out with any of the session's tokens revokes the session, and always returns 204", async () => {
  const logout = (refresh_token: string) => accounts.sendRequest("/auth/logout", { json: { refresh_token } });
  const firstTokens = await accounts.register();
  const otherTokens = await accounts.login(firstTokens.user.email);
  const secondTokens = await refreshTokens(firstTokens.refresh_token);
  accounts.endedSessions.length = 0;
  for (const token of [
    firstTokens.refresh_token,
    secondTokens.refresh_token,
    "prt_nothing",
    secondTokens.refresh_token,
  ]) {
    const response = await logout(token);
    expect(response.status).toBe(204);
    expect(await response.text()).toBe("");
  }
  expect(accounts.endedSessions).toEqual([{ ids: [findSessionId(firstTokens.refresh_token)], reason: "logout" }]);
  expect(await readProblem(await postRefresh(secondTokens.refresh_token))).toEqual(unauthorized);
  expect(await readProblem(await accounts.sendRequest("/me", { token: secondTokens.access_token }))).toEqual(
    unauthorized,
  );
  expect((await accounts.sendRequest("/me", { token: otherTokens.access_token })).status).toBe(200);
});

test("a body without the token is invalid", async () => {
  for (const path of ["/auth/refresh", "/auth/logout"])
    for (const json of [{}, { refresh_token: 1 }, { refresh_token: "x".repeat(201) }, { refresh_token: "x", more: 1 }])
      expect(await readProblem(await accounts.sendRequest(path, { json }))).toEqual({ status: 422, code: "invalid" });
});
