import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import type { Session, Tokens } from "../../src/modules/auth/model.ts";
import { unknownOrigin } from "../support/request-origin.ts";
import { type Accounts, PASSWORD, readJson, readProblem, startAccounts } from "./start-accounts.ts";

let accounts: Accounts;
beforeAll(async () => {
  accounts = await startAccounts({ trustedProxies: ["127.0.0.1"] });
});
afterAll(() => accounts.stop());

type SessionPage = { data: Session[]; next_cursor: string | null };
const unauthorized = { status: 401, code: "unauthorized" };
const listSessions = async (token: string, query = "") =>
  readJson<SessionPage>(await accounts.sendRequest(`/me/sessions${query}`, { token }));
const revokeSession = (token: string, id: string) =>
  accounts.sendRequest(`/me/sessions/${id}`, { token, method: "DELETE" });
const isTokenAccepted = async ({ access_token }: Tokens) =>
  (await accounts.sendRequest("/me", { token: access_token })).status === 200;
const findCurrentSessionId = async ({ access_token }: Tokens) =>
  (await accounts.auth.identify(access_token, unknownOrigin)).credentialId;
const parseSessionId = ({ access_token }: Tokens): string =>
  (JSON.parse(Buffer.from(access_token.split(".")[1] ?? "", "base64url").toString()) as { sid: string }).sid;

test("every account route requires authentication", async () => {
  const routes: [string, string, unknown?][] = [
    ["GET", "/me"],
    ["PATCH", "/me", {}],
    ["GET", "/me/preferences"],
    ["PUT", "/me/preferences", {}],
    ["POST", "/me/password", { current_password: PASSWORD, new_password: PASSWORD }],
    ["GET", "/me/sessions"],
    ["DELETE", "/me/sessions"],
    ["DELETE", "/me/sessions/00000000-0000-7000-8000-000000000000"],
    ["POST", "/auth/ticket"],
  ];
  for (const [method, path, json] of routes) {
    const response = await accounts.sendRequest(path, { method, json });
    expect(response.headers.get("www-authenticate")).toBe('Bearer realm="parley"');
    expect({ method, path, ...(await readProblem(response)) }).toEqual({ method, path, ...unauthorized });
  }
});

describe("sessions", () => {
  test("are listed newest first, with their user agent and IP address", async () => {
    const firstTokens = await accounts.register();
    const loginResponse = await accounts.sendRequest("/auth/login", {
      json: { email: firstTokens.user.email, password: PASSWORD },
      headers: { "user-agent": `Browser ${"x".repeat(300)}`, "x-forwarded-for": "6.6.6.6, 203.0.113.7" },
    });
    const secondTokens = await readJson<Tokens>(loginResponse);
    const page = await listSessions(secondTokens.access_token);
    expect(page.next_cursor).toBeNull();
    expect(page.data.map(({ id, current }) => ({ id, current }))).toEqual([
      { id: await findCurrentSessionId(secondTokens), current: true },
      { id: await findCurrentSessionId(firstTokens), current: false },
    ]);
    expect(page.data[0]?.user_agent).toHaveLength(200);
    expect(page.data[0]?.ip_address).toBe("203.0.113.7");
    expect(page.data[1]?.ip_address).toBe("127.0.0.1");
    expect(Object.keys(page.data[0] ?? {}).sort()).toEqual([
      "created_at",
      "current",
      "expires_at",
      "id",
      "ip_address",
      "last_used_at",
      "user_agent",
    ]);
  });

  test("are paginated", async () => {
    const firstTokens = await accounts.register();
    for (let count = 0; count < 4; count++) await accounts.login(firstTokens.user.email);
    const ids: string[] = [];
    let cursor = "";
    do {
      const page = await listSessions(firstTokens.access_token, `?limit=2${cursor && `&cursor=${cursor}`}`);
      ids.push(...page.data.map(({ id }) => id));
      cursor = page.next_cursor ?? "";
    } while (cursor);
    expect(ids).toHaveLength(5);
    expect(ids).toEqual([...new Set(ids)].sort().reverse());
    const forgedCursor = Buffer.from(JSON.stringify(["v1", "no id"])).toString("base64url");
    for (const invalidCursor of ["x", forgedCursor])
      expect(
        await readProblem(
          await accounts.sendRequest(`/me/sessions?cursor=${invalidCursor}`, { token: firstTokens.access_token }),
        ),
      ).toEqual({
        status: 400,
        code: "bad_cursor",
      });
  });

  test("can be revoked individually", async () => {
    const firstTokens = await accounts.register();
    const secondTokens = await accounts.login(firstTokens.user.email);
    const id = await findCurrentSessionId(secondTokens);
    expect(await isTokenAccepted(secondTokens)).toBe(true);
    accounts.endedSessions.length = 0;
    expect((await revokeSession(firstTokens.access_token, id)).status).toBe(204);
    expect(accounts.endedSessions).toEqual([{ ids: [id], reason: "ended" }]);
    expect(await isTokenAccepted(secondTokens)).toBe(false);
    expect(
      (await accounts.sendRequest("/auth/refresh", { json: { refresh_token: secondTokens.refresh_token } })).status,
    ).toBe(401);
    expect(await isTokenAccepted(firstTokens)).toBe(true);
    expect((await listSessions(firstTokens.access_token)).data).toHaveLength(1);
    expect((await revokeSession(firstTokens.access_token, id)).status).toBe(404);
  });

  test("can't be seen or revoked by other users", async () => {
    const owner = await accounts.register();
    const outsider = await accounts.register();
    const id = await findCurrentSessionId(owner);
    accounts.endedSessions.length = 0;
    expect(await readProblem(await revokeSession(outsider.access_token, id))).toEqual({
      status: 404,
      code: "not_found",
    });
    expect((await listSessions(outsider.access_token)).data.map((session) => session.id)).not.toContain(id);
    expect(await isTokenAccepted(owner)).toBe(true);
    expect(accounts.endedSessions).toEqual([]);
    expect((await revokeSession(owner.access_token, "no-id")).status).toBe(422);
  });

  test("can be revoked together, but the current one only with all=true", async () => {
    const [currentTokens, outsider] = [await accounts.register(), await accounts.register()];
    const otherTokens = [
      await accounts.login(currentTokens.user.email),
      await accounts.login(currentTokens.user.email),
    ];
    accounts.endedSessions.length = 0;
    const revokeAll = (query: string) =>
      accounts.sendRequest(`/me/sessions${query}`, { token: currentTokens.access_token, method: "DELETE" });
    expect((await revokeAll("?all=maybe")).status).toBe(422);
    expect((await revokeAll("")).status).toBe(204);
    const otherIds = await Promise.all(otherTokens.map((tokens) => parseSessionId(tokens)));
    expect(accounts.endedSessions).toEqual([{ ids: expect.arrayContaining(otherIds), reason: "ended" }]);
    for (const tokens of otherTokens) expect(await isTokenAccepted(tokens)).toBe(false);
    expect(await isTokenAccepted(currentTokens)).toBe(true);
    expect(await isTokenAccepted(outsider)).toBe(true);
    expect((await revokeAll("?all=true")).status).toBe(204);
    expect(await isTokenAccepted(currentTokens)).toBe(false);
    expect(await isTokenAccepted(outsider)).toBe(true);
    const entries = await accounts.database`
      select actor_id, target_id, details from audit_events
      where action = 'session.ended' and target_id = ${currentTokens.user.id} order by id`;
    expect([...entries]).toEqual(
      [2, 1].map((sessions) => ({
        actor_id: currentTokens.user.id,
        target_id: currentTokens.user.id,
        details: { reason: "ended", sessions },
      })),
    );
  });

  test("can revoke themselves", async () => {
    const tokens = await accounts.register();
    expect((await revokeSession(tokens.access_token, await findCurrentSessionId(tokens))).status).toBe(204);
    expect(await isTokenAccepted(tokens)).toBe(false);
  });

  test("are listed as ended for a few seconds after they are revoked", async () => {
    const tokens = await accounts.register();
    const id = await findCurrentSessionId(tokens);
    expect(await accounts.auth.findEndedSessions(5_000)).not.toContainEqual({ id, reason: "logout" });
    await accounts.sendRequest("/auth/logout", { json: { refresh_token: tokens.refresh_token } });
    expect(await accounts.auth.findEndedSessions(5_000)).toContainEqual({ id, reason: "logout" });
    await accounts.database`update sessions set revoked_at = now() - interval '6 s' where id = ${id}`;
    expect(await accounts.auth.findEndedSessions(5_000)).not.toContainEqual({ id, reason: "logout" });
  });

  test("are deleted a day after they expire or are revoked", async () => {
    const currentTokens = await accounts.register();
    const [revokedTokens, expiredTokens, recentlyRevokedTokens] = await Promise.all(
      [1, 2, 3].map(() => accounts.login(currentTokens.user.email)),
    );
    if (!revokedTokens || !expiredTokens || !recentlyRevokedTokens) throw new Error("expected three logins");
    const ids = await Promise.all(
      [revokedTokens, expiredTokens, recentlyRevokedTokens, currentTokens].map(findCurrentSessionId),
    );
    const [revokedId = "", expiredId = "", recentlyRevokedId = ""] = ids;
    const sql = accounts.database;
    await sql`update sessions set revoked_at = now() - interval '25 hours' where id = ${revokedId}`;
    await sql`update sessions set expires_at = now() - interval '25 hours' where id = ${expiredId}`;
    await sql`update sessions set revoked_at = now() - interval '23 hours' where id = ${recentlyRevokedId}`;
    await accounts.auth.createTicket(await accounts.auth.identify(currentTokens.access_token, unknownOrigin));
    await sql`update tickets set expires_at = now() - interval '1 s'`;
    const { ticket } = await accounts.auth.createTicket(
      await accounts.auth.identify(currentTokens.access_token, unknownOrigin),
    );
    expect(await accounts.auth.deleteExpired()).toEqual({ sessions: 2, tickets: 1 });
    const remainingRows = await sql<{ id: string }[]>`select id from sessions where id in ${sql(ids)}`;
    expect(remainingRows.map(({ id }) => id).sort()).toEqual(
      [recentlyRevokedId, await findCurrentSessionId(currentTokens)].sort(),
    );
    expect((await accounts.auth.redeemTicket(ticket, unknownOrigin)).user.id).toBe(currentTokens.user.id);
  });
});

describe("a password", () => {
  const changePassword = (token: string, current_password: string, new_password: string) =>
    accounts.sendRequest("/me/password", { token, json: { current_password, new_password } });
  const login = async (email: string, password: string) =>
    (await accounts.sendRequest("/auth/login", { json: { email, password } })).status;

  test("can be changed, which revokes all other sessions", async () => {
    const firstTokens = await accounts.register();
    const otherTokens = [await accounts.login(firstTokens.user.email), await accounts.login(firstTokens.user.email)];
    const otherUser = await accounts.register();
    const otherIds = await Promise.all(otherTokens.map(findCurrentSessionId));
    accounts.endedSessions.length = 0;
    expect((await changePassword(firstTokens.access_token, PASSWORD, "a better one")).status).toBe(200);
    expect(accounts.endedSessions).toEqual([{ ids: expect.arrayContaining(otherIds), reason: "password_changed" }]);
    expect(accounts.endedSessions[0]?.ids).toHaveLength(2);
    for (const tokens of otherTokens) expect(await isTokenAccepted(tokens)).toBe(false);
    expect(await isTokenAccepted(firstTokens)).toBe(true);
    expect(
      (await accounts.sendRequest("/auth/refresh", { json: { refresh_token: firstTokens.refresh_token } })).status,
    ).toBe(200);
    expect(await isTokenAccepted(otherUser)).toBe(true);
    expect(await login(firstTokens.user.email, PASSWORD)).toBe(401);
    expect(await login(firstTokens.user.email, "a better one")).toBe(200);
  });

  test("isn't changed if the current password is wrong or the new one is invalid", async () => {
    const firstTokens = await accounts.register();
    const otherTokens = await accounts.login(firstTokens.user.email);
    expect(await readProblem(await changePassword(firstTokens.access_token, "wrong", "a better one"))).toEqual({
      status: 403,
      code: "forbidden",
    });
    for (const invalidPassword of ["short", "x".repeat(129)])
      expect((await changePassword(firstTokens.access_token, PASSWORD, invalidPassword)).status).toBe(422);
    expect(await isTokenAccepted(otherTokens)).toBe(true);
    expect(await login(firstTokens.user.email, PASSWORD)).toBe(200);
  });

  test("is changed by only one of two concurrent requests", async () => {
    const firstTokens = await accounts.register();
    const newPasswords = ["the first of two", "the second of two"];
    const responses = await Promise.all(
      newPasswords.map((password) => changePassword(firstTokens.access_token, PASSWORD, password)),
    );
    const statuses = responses.map(({ status }) => status);
    expect(statuses.filter((status) => status === 200)).toHaveLength(1);
    // The other request either conflicted, or its current password was no longer correct.
    expect([403, 409]).toContain(statuses.find((status) => status !== 200) ?? 0);
    expect(await login(firstTokens.user.email, newPasswords[statuses.indexOf(200)] ?? "")).toBe(200);
  });
});
