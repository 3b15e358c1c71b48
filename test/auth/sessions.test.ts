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
  readJson<SessionPage>(await accounts.call(`/me/sessions${query}`, { token }));
const revoke = (token: string, id: string) => accounts.call(`/me/sessions/${id}`, { token, method: "DELETE" });
const isValid = async ({ access_token }: Tokens) =>
  (await accounts.call("/me", { token: access_token })).status === 200;
const findCurrentId = async ({ access_token }: Tokens) =>
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
    const response = await accounts.call(path, { method, json });
    expect(response.headers.get("www-authenticate")).toBe('Bearer realm="parley"');
    expect({ method, path, ...(await readProblem(response)) }).toEqual({ method, path, ...unauthorized });
  }
});

describe("sessions", () => {
  test("are listed newest first, with their user agent and IP address", async () => {
    const first = await accounts.register();
    const login = await accounts.call("/auth/login", {
      json: { email: first.user.email, password: PASSWORD },
      headers: { "user-agent": `Browser ${"x".repeat(300)}`, "x-forwarded-for": "6.6.6.6, 203.0.113.7" },
    });
    const second = await readJson<Tokens>(login);
    const page = await listSessions(second.access_token);
    expect(page.next_cursor).toBeNull();
    expect(page.data.map(({ id, current }) => ({ id, current }))).toEqual([
      { id: await findCurrentId(second), current: true },
      { id: await findCurrentId(first), current: false },
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
    const first = await accounts.register();
    for (let count = 0; count < 4; count++) await accounts.login(first.user.email);
    const ids: string[] = [];
    let cursor = "";
    do {
      const page = await listSessions(first.access_token, `?limit=2${cursor && `&cursor=${cursor}`}`);
      ids.push(...page.data.map(({ id }) => id));
      cursor = page.next_cursor ?? "";
    } while (cursor);
    expect(ids).toHaveLength(5);
    expect(ids).toEqual([...new Set(ids)].sort().reverse());
    const forged = Buffer.from(JSON.stringify(["v1", "no id"])).toString("base64url");
    for (const invalidCursor of ["x", forged])
      expect(
        await readProblem(await accounts.call(`/me/sessions?cursor=${invalidCursor}`, { token: first.access_token })),
      ).toEqual({
        status: 400,
        code: "bad_cursor",
      });
  });

  test("can be revoked individually", async () => {
    const first = await accounts.register();
    const second = await accounts.login(first.user.email);
    const id = await findCurrentId(second);
    expect(await isValid(second)).toBe(true);
    accounts.endedSessions.length = 0;
    expect((await revoke(first.access_token, id)).status).toBe(204);
    expect(accounts.endedSessions).toEqual([{ ids: [id], reason: "ended" }]);
    expect(await isValid(second)).toBe(false);
    expect((await accounts.call("/auth/refresh", { json: { refresh_token: second.refresh_token } })).status).toBe(401);
    expect(await isValid(first)).toBe(true);
    expect((await listSessions(first.access_token)).data).toHaveLength(1);
    expect((await revoke(first.access_token, id)).status).toBe(404);
  });

  test("can't be seen or revoked by other users", async () => {
    const owner = await accounts.register();
    const outsider = await accounts.register();
    const id = await findCurrentId(owner);
    accounts.endedSessions.length = 0;
    expect(await readProblem(await revoke(outsider.access_token, id))).toEqual({ status: 404, code: "not_found" });
    expect((await listSessions(outsider.access_token)).data.map((session) => session.id)).not.toContain(id);
    expect(await isValid(owner)).toBe(true);
    expect(accounts.endedSessions).toEqual([]);
    expect((await revoke(owner.access_token, "no-id")).status).toBe(422);
  });

  test("can be revoked together, but the current one only with all=true", async () => {
    const [current, outsider] = [await accounts.register(), await accounts.register()];
    const otherTokens = [await accounts.login(current.user.email), await accounts.login(current.user.email)];
    accounts.endedSessions.length = 0;
    const revokeAll = (query: string) =>
      accounts.call(`/me/sessions${query}`, { token: current.access_token, method: "DELETE" });
    expect((await revokeAll("?all=maybe")).status).toBe(422);
    expect((await revokeAll("")).status).toBe(204);
    const otherIds = await Promise.all(otherTokens.map((tokens) => parseSessionId(tokens)));
    expect(accounts.endedSessions).toEqual([{ ids: expect.arrayContaining(otherIds), reason: "ended" }]);
    for (const other of otherTokens) expect(await isValid(other)).toBe(false);
    expect(await isValid(current)).toBe(true);
    expect(await isValid(outsider)).toBe(true);
    expect((await revokeAll("?all=true")).status).toBe(204);
    expect(await isValid(current)).toBe(false);
    expect(await isValid(outsider)).toBe(true);
    const entries = await accounts.database`
      select actor_id, target_id, details from audit_events
      where action = 'session.ended' and target_id = ${current.user.id} order by id`;
    expect([...entries]).toEqual(
      [2, 1].map((sessions) => ({
        actor_id: current.user.id,
        target_id: current.user.id,
        details: { reason: "ended", sessions },
      })),
    );
  });

  test("can revoke themselves", async () => {
    const tokens = await accounts.register();
    expect((await revoke(tokens.access_token, await findCurrentId(tokens))).status).toBe(204);
    expect(await isValid(tokens)).toBe(false);
  });

  test("are listed as ended for a few seconds after they are revoked", async () => {
    const tokens = await accounts.register();
    const id = await findCurrentId(tokens);
    expect(await accounts.auth.findEndedSessions(5_000)).not.toContainEqual({ id, reason: "logout" });
    await accounts.call("/auth/logout", { json: { refresh_token: tokens.refresh_token } });
    expect(await accounts.auth.findEndedSessions(5_000)).toContainEqual({ id, reason: "logout" });
    await accounts.database`update sessions set revoked_at = now() - interval '6 s' where id = ${id}`;
    expect(await accounts.auth.findEndedSessions(5_000)).not.toContainEqual({ id, reason: "logout" });
  });

  test("are deleted a day after they expire or are revoked", async () => {
    const current = await accounts.register();
    const [revoked, expired, recentlyRevoked] = await Promise.all(
      [1, 2, 3].map(() => accounts.login(current.user.email)),
    );
    if (!revoked || !expired || !recentlyRevoked) throw new Error("three logins");
    const ids = await Promise.all([revoked, expired, recentlyRevoked, current].map(findCurrentId));
    const [revokedId = "", expiredId = "", recentlyRevokedId = ""] = ids;
    const { sql } = { sql: accounts.database };
    await sql`update sessions set revoked_at = now() - interval '25 hours' where id = ${revokedId}`;
    await sql`update sessions set expires_at = now() - interval '25 hours' where id = ${expiredId}`;
    await sql`update sessions set revoked_at = now() - interval '23 hours' where id = ${recentlyRevokedId}`;
    await accounts.auth.createTicket(await accounts.auth.identify(current.access_token, unknownOrigin));
    await sql`update tickets set expires_at = now() - interval '1 s'`;
    const { ticket } = await accounts.auth.createTicket(
      await accounts.auth.identify(current.access_token, unknownOrigin),
    );
    expect(await accounts.auth.deleteExpired()).toEqual({ sessions: 2, tickets: 1 });
    const remaining = await sql<{ id: string }[]>`select id from sessions where id in ${sql(ids)}`;
    expect(remaining.map(({ id }) => id).sort()).toEqual([recentlyRevokedId, await findCurrentId(current)].sort());
    expect((await accounts.auth.redeemTicket(ticket, unknownOrigin)).user.id).toBe(current.user.id);
  });
});

describe("a password", () => {
  const change = (token: string, current_password: string, new_password: string) =>
    accounts.call("/me/password", { token, json: { current_password, new_password } });
  const login = async (email: string, password: string) =>
    (await accounts.call("/auth/login", { json: { email, password } })).status;

  test("can be changed, which revokes all other sessions", async () => {
    const first = await accounts.register();
    const otherTokens = [await accounts.login(first.user.email), await accounts.login(first.user.email)];
    const otherUser = await accounts.register();
    const otherIds = await Promise.all(otherTokens.map(findCurrentId));
    accounts.endedSessions.length = 0;
    expect((await change(first.access_token, PASSWORD, "a better one")).status).toBe(200);
    expect(accounts.endedSessions).toEqual([{ ids: expect.arrayContaining(otherIds), reason: "password_changed" }]);
    expect(accounts.endedSessions[0]?.ids).toHaveLength(2);
    for (const other of otherTokens) expect(await isValid(other)).toBe(false);
    expect(await isValid(first)).toBe(true);
    expect((await accounts.call("/auth/refresh", { json: { refresh_token: first.refresh_token } })).status).toBe(200);
    expect(await isValid(otherUser)).toBe(true);
    expect(await login(first.user.email, PASSWORD)).toBe(401);
    expect(await login(first.user.email, "a better one")).toBe(200);
  });

  test("isn't changed if the current one is wrong or the new one is invalid", async () => {
    const first = await accounts.register();
    const other = await accounts.login(first.user.email);
    expect(await readProblem(await change(first.access_token, "wrong", "a better one"))).toEqual({
      status: 403,
      code: "forbidden",
    });
    for (const invalidPassword of ["short", "x".repeat(129)])
      expect((await change(first.access_token, PASSWORD, invalidPassword)).status).toBe(422);
    expect(await isValid(other)).toBe(true);
    expect(await login(first.user.email, PASSWORD)).toBe(200);
  });

  test("is changed by only one of two concurrent requests", async () => {
    const first = await accounts.register();
    const newPasswords = ["the first of two", "the second of two"];
    const responses = await Promise.all(newPasswords.map((password) => change(first.access_token, PASSWORD, password)));
    const statuses = responses.map(({ status }) => status);
    expect(statuses.filter((status) => status === 200)).toHaveLength(1);
    // The other request either conflicted, or its current password was no longer right.
    expect([403, 409]).toContain(statuses.find((status) => status !== 200) ?? 0);
    expect(await login(first.user.email, newPasswords[statuses.indexOf(200)] ?? "")).toBe(200);
  });
});
