import { afterAll, beforeAll, expect, test } from "bun:test";
import type { Tokens } from "../../src/modules/auth/model.ts";
import { createRefreshTokens } from "../../src/modules/auth/refresh-tokens.ts";
import { type Accounts, JWT_SECRET, readJson, readProblem, startAccounts } from "./start-accounts.ts";

let accounts: Accounts;
beforeAll(async () => {
  accounts = await startAccounts();
});
afterAll(() => accounts.stop());

const postRefresh = (refresh_token: string) => accounts.call("/auth/refresh", { json: { refresh_token } });
const refresh = async (token: string) => readJson<Tokens>(await postRefresh(token));
const findSessionId = (token: string) => createRefreshTokens(JWT_SECRET).parse(token)?.sessionId ?? "";
/** Backdates the last refresh. */
const backdateRefresh = (token: string, seconds: number) =>
  accounts.database`update sessions set rotated_at = rotated_at - make_interval(secs => ${seconds}::float8) where id = ${findSessionId(token)}`;

const unauthorized = { status: 401, code: "unauthorized" };
const reused = { status: 401, code: "token_reused" };

test("a refresh returns a new pair of valid tokens for the same session", async () => {
  const first = await accounts.register();
  const second = await refresh(first.refresh_token);
  expect(second.user).toEqual(first.user);
  expect(second.refresh_token).not.toBe(first.refresh_token);
  expect(findSessionId(second.refresh_token)).toBe(findSessionId(first.refresh_token));
  expect((await accounts.call("/me", { token: second.access_token })).status).toBe(200);
  const third = await refresh(second.refresh_token);
  expect((await accounts.call("/me", { token: third.access_token })).status).toBe(200);
});

test("reusing the previous refresh token within 10 s returns the same new token", async () => {
  const first = await accounts.register();
  const second = await refresh(first.refresh_token);
  await backdateRefresh(first.refresh_token, 9);
  const repeated = await refresh(first.refresh_token);
  expect(repeated.refresh_token).toBe(second.refresh_token);
  expect((await accounts.call("/me", { token: repeated.access_token })).status).toBe(200);
  expect((await refresh(second.refresh_token)).refresh_token).not.toBe(second.refresh_token);
});

test("reusing the previous refresh token after 10 s revokes the session", async () => {
  const first = await accounts.register();
  const second = await refresh(first.refresh_token);
  await backdateRefresh(first.refresh_token, 11);
  accounts.endedSessions.length = 0;
  expect(await readProblem(await postRefresh(first.refresh_token))).toEqual(reused);
  expect(accounts.endedSessions).toEqual([{ ids: [findSessionId(first.refresh_token)], reason: "token_reused" }]);
  expect(await readProblem(await postRefresh(second.refresh_token))).toEqual(unauthorized);
  expect(await readProblem(await accounts.call("/me", { token: second.access_token }))).toEqual(unauthorized);
});

test("reusing an older refresh token even within 10 s revokes its session, but no other session", async () => {
  const first = await accounts.register();
  const other = await accounts.login(first.user.email);
  const second = await refresh(first.refresh_token);
  const third = await refresh(second.refresh_token);
  expect(await readProblem(await postRefresh(first.refresh_token))).toEqual(reused);
  expect(await readProblem(await postRefresh(third.refresh_token))).toEqual(unauthorized);
  expect((await postRefresh(other.refresh_token)).status).toBe(200);
});

test("a session that is revoked because a token was reused is reported only once", async () => {
  const first = await accounts.register();
  await refresh((await refresh(first.refresh_token)).refresh_token);
  accounts.endedSessions.length = 0;
  const responses = await Promise.all(Array.from({ length: 8 }, () => postRefresh(first.refresh_token)));
  expect(new Set(responses.map(({ status }) => status))).toEqual(new Set([401]));
  expect(accounts.endedSessions).toHaveLength(1);
});

test("16 concurrent refreshes rotate the token once and return the same new token", async () => {
  const first = await accounts.register();
  const responses = await Promise.all(Array.from({ length: 16 }, () => postRefresh(first.refresh_token)));
  expect(responses.map(({ status }) => status)).toEqual(Array(16).fill(200));
  const tokens = await Promise.all(responses.map((response) => readJson<Tokens>(response)));
  expect(new Set(tokens.map(({ refresh_token }) => refresh_token)).size).toBe(1);
  const [row] =
    await accounts.database`select generation from sessions where id = ${findSessionId(first.refresh_token)}`;
  expect(row?.generation).toBe(1);
  expect((await postRefresh(tokens[0]?.refresh_token ?? "")).status).toBe(200);
});

test("a token with a changed bit is rejected without revoking the session", async () => {
  const { refresh_token } = await accounts.register();
  const text = refresh_token.slice(4);
  const bytes = Buffer.from(text, "base64url");
  const forged = [0, 15, 16, 19, 20, 51].map((at) => {
    const copy = Buffer.from(bytes);
    copy[at] = (copy[at] ?? 0) ^ 1;
    return `prt_${copy.toString("base64url")}`;
  });
  // The last character has four unused bits, so another character can encode the same bytes.
  const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
  const respelled = `prt_${text.slice(0, -1)}${alphabet[alphabet.indexOf(text.at(-1) ?? "") + 1]}`;
  for (const token of [
    ...forged,
    respelled,
    `${refresh_token}A`,
    refresh_token.slice(0, -1),
    text,
    "prt_",
    "x",
    `${refresh_token}\n`,
  ])
    expect(await readProblem(await postRefresh(token))).toEqual(unauthorized);
  expect((await postRefresh(refresh_token)).status).toBe(200);
});

test("a forged older token doesn't revoke the session", async () => {
  const first = await accounts.register();
  const second = await refresh(first.refresh_token);
  const third = await refresh(second.refresh_token);
  const forged = createRefreshTokens("another secret, which is just as long").create({
    sessionId: findSessionId(first.refresh_token),
    generation: 0,
    refreshKey: Buffer.alloc(32),
  });
  expect(await readProblem(await postRefresh(forged))).toEqual(unauthorized);
  expect((await postRefresh(third.refresh_token)).status).toBe(200);
});

test("neither the server's secret nor a copy of the database is enough to forge a token", async () => {
  const { refresh_token } = await accounts.register();
  const sessionId = findSessionId(refresh_token);
  const [row] = await accounts.database<
    { refresh_key: Uint8Array }[]
  >`select refresh_key from sessions where id = ${sessionId}`;
  const refreshKey = row?.refresh_key ?? Buffer.alloc(0);
  const withSecretOnly = createRefreshTokens(JWT_SECRET).create({
    sessionId,
    generation: 0,
    refreshKey: Buffer.alloc(32),
  });
  const withRowOnly = createRefreshTokens("not the secret").create({ sessionId, generation: 0, refreshKey });
  for (const token of [withSecretOnly, withRowOnly])
    expect(await readProblem(await postRefresh(token))).toEqual(unauthorized);
  expect(createRefreshTokens(JWT_SECRET).create({ sessionId, generation: 0, refreshKey })).toBe(refresh_token);
});

test("a token newer than a restored database is rejected without revoking the session", async () => {
  const first = await accounts.register();
  const second = await refresh(first.refresh_token);
  await accounts.database`update sessions set generation = 0 where id = ${findSessionId(first.refresh_token)}`;
  expect(await readProblem(await postRefresh(second.refresh_token))).toEqual(unauthorized);
  expect((await postRefresh(first.refresh_token)).status).toBe(200);
});

test("a session expires after 30 idle days, and after 90 days at the latest", async () => {
  const { refresh_token } = await accounts.register();
  const id = findSessionId(refresh_token);
  const countDays = async () => {
    const [row] = await accounts.database<{ days: number }[]>`
      select round(extract(epoch from expires_at - now()) / 86400)::int as days from sessions where id = ${id}`;
    return row?.days;
  };
  expect(await countDays()).toBe(30);
  await accounts.database`update sessions set created_at = now() - interval '80 days' where id = ${id}`;
  const second = await refresh(refresh_token);
  expect(await countDays()).toBe(10);
  await accounts.database`update sessions set expires_at = now() where id = ${id}`;
  expect(await readProblem(await postRefresh(second.refresh_token))).toEqual(unauthorized);
});

test("a disabled user gets no new tokens", async () => {
  const { user, refresh_token } = await accounts.register();
  await accounts.database`update users set disabled_at = now() where id = ${user.id}`;
  expect(await readProblem(await postRefresh(refresh_token))).toEqual(unauthorized);
});

test("logging out with any of the session's tokens revokes the session, and always returns 204", async () => {
  const logout = (refresh_token: string) => accounts.call("/auth/logout", { json: { refresh_token } });
  const first = await accounts.register();
  const other = await accounts.login(first.user.email);
  const second = await refresh(first.refresh_token);
  accounts.endedSessions.length = 0;
  for (const token of [first.refresh_token, second.refresh_token, "prt_nothing", second.refresh_token]) {
    const response = await logout(token);
    expect(response.status).toBe(204);
    expect(await response.text()).toBe("");
  }
  expect(accounts.endedSessions).toEqual([{ ids: [findSessionId(first.refresh_token)], reason: "logout" }]);
  expect(await readProblem(await postRefresh(second.refresh_token))).toEqual(unauthorized);
  expect(await readProblem(await accounts.call("/me", { token: second.access_token }))).toEqual(unauthorized);
  expect((await accounts.call("/me", { token: other.access_token })).status).toBe(200);
});

test("a body without the token is invalid", async () => {
  for (const path of ["/auth/refresh", "/auth/logout"])
    for (const json of [{}, { refresh_token: 1 }, { refresh_token: "x".repeat(201) }, { refresh_token: "x", more: 1 }])
      expect(await readProblem(await accounts.call(path, { json }))).toEqual({ status: 422, code: "invalid" });
});
