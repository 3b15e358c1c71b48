import { afterEach, expect, test } from "bun:test";
import { createId } from "../../src/lib/id.ts";
import { type Account, TEST_PASSWORD } from "../support/client.ts";
import { createRest } from "../support/rest.ts";
import { openSocket } from "../support/socket.ts";
import { readQuotas, startQuotas, type WithQuotas } from "./start-quotas.ts";

let quotas: WithQuotas;
afterEach(() => quotas.stop());

const logIn = async ({ user: { email } }: Account): Promise<Account> => {
  const answer = await quotas.parley.fetch("/api/v1/auth/login", { json: { email, password: TEST_PASSWORD } });
  expect(answer.status).toBe(200);
  return (await answer.json()) as Account;
};
const statusOf = async ({ access_token }: Account) =>
  (await quotas.parley.fetch("/api/v1/me", { token: access_token })).status;

test("a login beyond the quota ends the least recently used session, with its sockets", async () => {
  quotas = await startQuotas({ QUOTA_SESSIONS: "3" });
  const { parley } = quotas;
  const first = await parley.register();
  const socket = await openSocket(parley.url, { token: first.access_token });
  const second = await logIn(first);
  const third = await logIn(first);
  // Used after the two others, although it is the oldest.
  const refreshed = await parley.fetch("/api/v1/auth/refresh", { json: { refresh_token: first.refresh_token } });
  expect(refreshed.status).toBe(200);
  const fourth = await logIn(first);
  expect(await Promise.all([first, second, third, fourth].map(statusOf))).toEqual([200, 401, 200, 200]);
  const fifth = await logIn(first);
  expect(await Promise.all([first, third, fourth, fifth].map(statusOf))).toEqual([200, 401, 200, 200]);
  await logIn(first);
  expect(await statusOf(first)).toBe(401);
  expect((await socket.closed).code).toBe(4506);

  const rest = createRest(parley, fifth);
  expect(await readQuotas(rest)).toMatchObject({ sessions: { used: 3, limit: 3 } });
  expect((await rest.all("/me/sessions", 50)).rows).toHaveLength(3);
  const ended = await parley.database`
    select revoked_reason, user_agent from sessions where user_id = ${first.user.id} and revoked_at is not null`;
  expect([...ended]).toEqual(Array(3).fill({ revoked_reason: "quota_exceeded", user_agent: null }));
  const audit = await parley.database`
    select details from audit_events where action = 'session.ended' and target_id = ${first.user.id}`;
  expect([...audit]).toEqual(Array(3).fill({ details: { reason: "quota_exceeded", sessions: 1 } }));
});

test("ten concurrent logins leave as many sessions as allowed, and lock no one out", async () => {
  quotas = await startQuotas({ QUOTA_SESSIONS: "3" });
  const [anna, ben] = [await quotas.parley.register(), await quotas.parley.register()];
  const logins = await Promise.all(Array.from({ length: 10 }, () => logIn(anna)));
  const statuses = await Promise.all(logins.map(statusOf));
  expect(statuses.filter((status) => status === 200)).toHaveLength(3);
  expect(await statusOf(ben)).toBe(200);
});

test("ended sessions affect neither the next login nor the list of sessions", async () => {
  quotas = await startQuotas({ QUOTA_SESSIONS: "2" });
  const { parley } = quotas;
  const anna = await parley.register();
  const insertEnded = (ids: string[]) => parley.database`
    insert into sessions (id, user_id, refresh_key, expires_at, revoked_at)
    select id, ${anna.user.id}, '\\x00', now() + interval '30 days', now() from unnest(${ids}::uuid[]) id`;
  await insertEnded(Array.from({ length: 5_000 }, createId));
  await parley.database`analyze sessions`;
  const plan = await parley.database`
    explain select id from sessions s where s.user_id = ${anna.user.id} and s.revoked_at is null and s.expires_at > now()
    order by s.last_used_at desc, s.id desc offset 2 limit 10`;
  expect(plan.map((row) => row["QUERY PLAN"]).join("\n")).toContain("sessions_live");
  await logIn(anna);
  expect(await readQuotas(createRest(parley, anna))).toMatchObject({ sessions: { used: 2 } });
});

test("without a quota no session is ended", async () => {
  quotas = await startQuotas({ QUOTA_SESSIONS: "0" });
  const anna = await quotas.parley.register();
  for (let n = 0; n < 3; n += 1) await logIn(anna);
  expect(await readQuotas(createRest(quotas.parley, anna))).toMatchObject({ sessions: { used: 4, limit: null } });
});
