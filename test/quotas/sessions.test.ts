import { afterEach, expect, test } from "bun:test";
import { createId } from "../../src/lib/id.ts";
import { type Account, TEST_PASSWORD } from "../support/client.ts";
import { createRestClient } from "../support/rest.ts";
import { openSocket } from "../support/socket.ts";
import { type QuotaApp, readQuotas, startQuotas } from "./start-quotas.ts";

let quotas: QuotaApp;
afterEach(() => quotas.stop());

const logIn = async ({ user: { email } }: Account): Promise<Account> => {
  const response = await quotas.parley.fetch("/api/v1/auth/login", { json: { email, password: TEST_PASSWORD } });
  expect(response.status).toBe(200);
  return (await response.json()) as Account;
};
const readStatus = async ({ access_token }: Account) =>
  (await quotas.parley.fetch("/api/v1/me", { token: access_token })).status;

test("a login beyond the quota revokes the least recently used session, and closes its sockets", async () => {
  quotas = await startQuotas({ QUOTA_SESSIONS: "3" });
  const { parley } = quotas;
  const first = await parley.register();
  const socket = await openSocket(parley.url, { token: first.access_token });
  const second = await logIn(first);
  const third = await logIn(first);
  // Makes the oldest session the most recently used one.
  const refreshed = await parley.fetch("/api/v1/auth/refresh", { json: { refresh_token: first.refresh_token } });
  expect(refreshed.status).toBe(200);
  const fourth = await logIn(first);
  expect(await Promise.all([first, second, third, fourth].map(readStatus))).toEqual([200, 401, 200, 200]);
  const fifth = await logIn(first);
  expect(await Promise.all([first, third, fourth, fifth].map(readStatus))).toEqual([200, 401, 200, 200]);
  await logIn(first);
  expect(await readStatus(first)).toBe(401);
  expect((await socket.closed).code).toBe(4506);

  const rest = createRestClient(parley, fifth);
  expect(await readQuotas(rest)).toMatchObject({ sessions: { used: 3, limit: 3 } });
  expect((await rest.listAll("/me/sessions", 50)).rows).toHaveLength(3);
  const revoked = await parley.database`
    select revoked_reason, user_agent from sessions where user_id = ${first.user.id} and revoked_at is not null`;
  expect([...revoked]).toEqual(Array(3).fill({ revoked_reason: "quota_exceeded", user_agent: null }));
  const audit = await parley.database`
    select details from audit_events where action = 'session.ended' and target_id = ${first.user.id}`;
  expect([...audit]).toEqual(Array(3).fill({ details: { reason: "quota_exceeded", sessions: 1 } }));
});

test("ten concurrent logins leave as many sessions as allowed, and don't affect other users", async () => {
  quotas = await startQuotas({ QUOTA_SESSIONS: "3" });
  const [anna, ben] = [await quotas.parley.register(), await quotas.parley.register()];
  const logins = await Promise.all(Array.from({ length: 10 }, () => logIn(anna)));
  const statuses = await Promise.all(logins.map(readStatus));
  expect(statuses.filter((status) => status === 200)).toHaveLength(3);
  expect(await readStatus(ben)).toBe(200);
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
  expect(await readQuotas(createRestClient(parley, anna))).toMatchObject({ sessions: { used: 2 } });
});

test("without a quota, no session is revoked", async () => {
  quotas = await startQuotas({ QUOTA_SESSIONS: "0" });
  const anna = await quotas.parley.register();
  for (let n = 0; n < 3; n += 1) await logIn(anna);
  expect(await readQuotas(createRestClient(quotas.parley, anna))).toMatchObject({ sessions: { used: 4, limit: null } });
});
