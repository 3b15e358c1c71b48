import { afterEach, expect, test } from "bun:test";
import { createId } from "../../src/lib/id.ts";
import { type Account, TEST_PASSWORD } from "../support/client.ts";
import { createRestClient } from "../support/rest.ts";
import { openSocket } from "../support/socket.ts";
import { getQuotas, type QuotaApp, startQuotas } from "./start-quotas.ts";

let quotas: QuotaApp;
afterEach(() => quotas.stop());

const logIn = async ({ user: { email } }: Account): Promise<Account> => {
  const response = await quotas.parley.fetch("/api/v1/auth/login", { json: { email, password: TEST_PASSWORD } });
  expect(response.status).toBe(200);
  return (await response.json()) as Account;
};
const getStatus = async ({ access_token }: Account) =>
  (await quotas.parley.fetch("/api/v1/me", { token: access_token })).status;

test("a login beyond the quota revokes the least recently used session, and closes its sockets", async () => {
  quotas = await startQuotas({ QUOTA_SESSIONS: "3" });
  const { parley } = quotas;
  const firstSession = await parley.register();
  const socket = await openSocket(parley.url, { token: firstSession.access_token });
  const secondSession = await logIn(firstSession);
  const thirdSession = await logIn(firstSession);
  // Makes the oldest session the most recently used one.
  const refreshed = await parley.fetch("/api/v1/auth/refresh", { json: { refresh_token: firstSession.refresh_token } });
  expect(refreshed.status).toBe(200);
  const fourthSession = await logIn(firstSession);
  expect(await Promise.all([firstSession, secondSession, thirdSession, fourthSession].map(getStatus))).toEqual([
    200, 401, 200, 200,
  ]);
  const fifthSession = await logIn(firstSession);
  expect(await Promise.all([firstSession, thirdSession, fourthSession, fifthSession].map(getStatus))).toEqual([
    200, 401, 200, 200,
  ]);
  await logIn(firstSession);
  expect(await getStatus(firstSession)).toBe(401);
  expect((await socket.closed).code).toBe(4506);

  const rest = createRestClient(parley, fifthSession);
  expect(await getQuotas(rest)).toMatchObject({ sessions: { used: 3, limit: 3 } });
  expect((await rest.listAll("/me/sessions", 50)).rows).toHaveLength(3);
  const revokedSessions = await parley.database`
    select revoked_reason, user_agent from sessions where user_id = ${firstSession.user.id} and revoked_at is not null`;
  expect([...revokedSessions]).toEqual(Array(3).fill({ revoked_reason: "quota_exceeded", user_agent: null }));
  const auditEvents = await parley.database`
    select details from audit_events where action = 'session.ended' and target_id = ${firstSession.user.id}`;
  expect([...auditEvents]).toEqual(Array(3).fill({ details: { reason: "quota_exceeded", sessions: 1 } }));
});

test("ten concurrent logins leave as many sessions as allowed, and don't affect other users", async () => {
  quotas = await startQuotas({ QUOTA_SESSIONS: "3" });
  const [anna, ben] = [await quotas.parley.register(), await quotas.parley.register()];
  const logins = await Promise.all(Array.from({ length: 10 }, () => logIn(anna)));
  const statuses = await Promise.all(logins.map(getStatus));
  expect(statuses.filter((status) => status === 200)).toHaveLength(3);
  expect(await getStatus(ben)).toBe(200);
});

test("revoked sessions neither count nor slow down the check", async () => {
  quotas = await startQuotas({ QUOTA_SESSIONS: "2" });
  const { parley } = quotas;
  const anna = await parley.register();
  const insertRevoked = (ids: string[]) => parley.database`
    insert into sessions (id, user_id, refresh_key, expires_at, revoked_at)
    select id, ${anna.user.id}, '\\x00', now() + interval '30 days', now() from unnest(${ids}::uuid[]) id`;
  await insertRevoked(Array.from({ length: 5_000 }, createId));
  await parley.database`analyze sessions`;
  const plan = await parley.database`
    explain select id from sessions s where s.user_id = ${anna.user.id} and s.revoked_at is null and s.expires_at > now()
    order by s.last_used_at desc, s.id desc offset 2 limit 10`;
  expect(plan.map((row) => row["QUERY PLAN"]).join("\n")).toContain("sessions_live");
  await logIn(anna);
  expect(await getQuotas(createRestClient(parley, anna))).toMatchObject({ sessions: { used: 2 } });
});

test("without a quota, no session is revoked", async () => {
  quotas = await startQuotas({ QUOTA_SESSIONS: "0" });
  const anna = await quotas.parley.register();
  for (let n = 0; n < 3; n += 1) await logIn(anna);
  expect(await getQuotas(createRestClient(quotas.parley, anna))).toMatchObject({ sessions: { used: 4, limit: null } });
});
