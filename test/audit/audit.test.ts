import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { createId } from "../../src/lib/id.ts";
import { createAuditLog, createAuditService } from "../../src/modules/audit/service.ts";
import {
  type Administration,
  type AuditEvent,
  logIn,
  type Page,
  startAdministration,
} from "../accounts/start-administration.ts";
import { TEST_PASSWORD } from "../support/app.ts";
import { createRestClient, type RestClient } from "../support/rest.ts";

let parley: Administration;
let admin: RestClient;
beforeAll(async () => {
  parley = await startAdministration();
  admin = parley.admin;
});
afterAll(() => parley.stop());

const listEntries = async (query = "") => (await admin.get<Page<AuditEvent>>(`/audit?${query}`)).body.data;
const listActions = async (userId: string) =>
  (await listEntries(`actor_id=${userId}`)).map(({ action }) => action).reverse();
const tryLogin = (email: string, password: string) => parley.fetch("/api/v1/auth/login", { json: { email, password } });

describe("reading the audit log", () => {
  test("requires an administrator's session, or an administrator's key with the admin scope", async () => {
    const user = createRestClient(parley, await parley.register());
    expect(await user.requestProblem("GET", "/audit")).toMatchObject({ status: 403, code: "forbidden" });
    expect((await parley.fetch("/api/v1/audit")).status).toBe(401);
    for (const [scope, status] of [
      ["users:read", 403],
      ["admin", 200],
    ] as const) {
      const { body } = await admin.request<{ key: string }>("POST", "/api-keys", { name: "k", scopes: [scope] });
      expect((await parley.fetch("/api/v1/audit", { token: body.key })).status).toBe(status);
    }
  });

  test("returns pages, newest first, filtered by any field", async () => {
    const account = await parley.register();
    const other = await parley.register();
    const rest = createRestClient(parley, account);
    for (let count = 0; count < 4; count += 1) await logIn(parley, account.user.email);
    const { rows, pages } = await admin.listAll<AuditEvent>(`/audit?actor_id=${account.user.id}`, 2);
    expect(pages).toEqual([2, 2, 2]);
    const ids = rows.map(({ id }) => id);
    expect(ids).toEqual([...new Set(ids)].sort().reverse());
    expect(rows.every(({ actor_id }) => actor_id === account.user.id)).toBe(true);
    expect(rows[0]).toEqual({
      id: expect.any(String),
      action: "user.logged_in",
      actor_id: account.user.id,
      credential_id: expect.any(String),
      target: { type: "user", id: account.user.id },
      ip_address: "127.0.0.1",
      details: {},
      at: expect.any(String),
    });
    expect(await listEntries(`target_id=${account.user.id}&action=user.registered`)).toHaveLength(1);
    expect(await listEntries(`target_id=${other.user.id}&actor_id=${account.user.id}`)).toEqual([]);
    const [newest, second] = rows;
    const query = `actor_id=${account.user.id}`;
    // The end of a time span is exclusive, its start inclusive.
    expect((await listEntries(`${query}&to=${newest?.at}`)).map(({ id }) => id)).not.toContain(String(newest?.id));
    expect((await listEntries(`${query}&from=${newest?.at}`)).map(({ id }) => id)).toContain(String(newest?.id));
    expect((await listEntries(`${query}&from=${second?.at}&to=${second?.at}`)).length).toBe(0);
    expect(await listEntries("from=2000-01-01T00:00:00Z&to=2000-01-02T00:00:00Z")).toEqual([]);
    expect(await listEntries("from=9998-01-01T00:00:00Z")).toEqual([]);
    expect((await rest.get("/audit")).status).toBe(403);
  });

  test("rejects malformed filters", async () => {
    const invalidQueries = [
      "action=user.danced",
      "actor_id=me",
      "target_id=%00",
      "from=yesterday",
      "to=2026-13-45T00:00:00Z",
    ];
    for (const query of [...invalidQueries, "from=0000-01-01T00:00:00Z", "limit=0"])
      expect({ query, status: (await admin.requestProblem("GET", `/audit?${query}`)).status }).toEqual({
        query,
        status: 422,
      });
    expect((await admin.requestProblem("GET", "/audit?cursor=x")).status).toBe(400);
  });
});

describe("the audit log contains", () => {
  test("a registration, logins, a password change, ended sessions and an export", async () => {
    const account = await parley.register();
    const rest = createRestClient(parley, account);
    const second = await logIn(parley, account.user.email);
    await parley.fetch("/api/v1/auth/logout", { json: { refresh_token: second.refresh_token } });
    const third = await logIn(parley, account.user.email);
    const { body } = await createRestClient(parley, third).get<Page<{ id: string; current: boolean }>>("/me/sessions");
    const thirdId = body.data.find(({ current }) => current)?.id ?? "";
    await rest.request("DELETE", `/me/sessions/${thirdId}`);
    await rest.request("POST", "/me/password", { current_password: TEST_PASSWORD, new_password: "another password" });
    await parley.fetch("/api/v1/me/export", { token: account.access_token });
    expect(await listActions(account.user.id)).toEqual([
      "user.registered",
      "user.logged_in",
      "user.logged_in",
      "session.ended",
      "user.logged_in",
      "session.ended",
      "user.password_changed",
      "user.exported",
    ]);
    const endedSessions = await listEntries(`actor_id=${account.user.id}&action=session.ended`);
    expect(endedSessions.map(({ details }) => details)).toEqual([{ reason: "ended" }, { reason: "logout" }]);
    expect(endedSessions[0]?.target).toEqual({ type: "session", id: thirdId });
  });

  test("failed logins with known and unknown email addresses, without the address", async () => {
    const { user } = await parley.register();
    const unknownEmail = `${createId()}@example.com`;
    const before = (await listEntries("action=user.login_failed")).length;
    for (const email of [user.email, unknownEmail]) {
      const response = await tryLogin(email, "wrong password");
      expect(((await response.json()) as { code: string }).code).toBe("invalid_credentials");
    }
    const failedLogins = await listEntries("action=user.login_failed");
    expect(failedLogins.length).toBe(before + 2);
    const [forUnknown, forKnown] = failedLogins;
    const entry = { actor_id: null, ip_address: "127.0.0.1", details: { reason: "credentials" } };
    expect(forUnknown).toMatchObject({ ...entry, target: null });
    expect(forKnown).toMatchObject({ ...entry, target: { type: "user", id: user.id } });
    const text = JSON.stringify(await listEntries("limit=200"));
    for (const secret of [user.email, unknownEmail, "wrong password", TEST_PASSWORD])
      expect(text).not.toContain(secret);
  });

  test("a reused refresh token, with its session", async () => {
    const account = await parley.register();
    const refresh = () => parley.fetch("/api/v1/auth/refresh", { json: { refresh_token: account.refresh_token } });
    await refresh();
    await parley.database`update sessions set rotated_at = now() - interval '1 min' where user_id = ${account.user.id}`;
    expect(((await (await refresh()).json()) as { code: string }).code).toBe("token_reused");
    expect((await refresh()).status).toBe(401);
    const [session] = await parley.database`select id from sessions where user_id = ${account.user.id}`;
    const [entry, ...others] = await listEntries(`target_id=${account.user.id}&action=session.token_reused`);
    expect(others).toEqual([]);
    expect(entry).toMatchObject({ actor_id: null, credential_id: session?.id, ip_address: "127.0.0.1" });
  });

  test("no entry for a request that changes nothing", async () => {
    const account = await parley.register();
    const rest = createRestClient(parley, account);
    const before = await listEntries("limit=1");
    await rest.request("DELETE", `/me/sessions/${createId()}`);
    await rest.request("DELETE", "/me/sessions");
    await rest.request("POST", "/me/password", { current_password: "wrong", new_password: "another password" });
    await parley.fetch("/api/v1/auth/logout", { json: { refresh_token: "prt_x" } });
    await parley.fetch("/api/v1/auth/register", { json: { email: account.user.email, password: TEST_PASSWORD } });
    expect(await listEntries("limit=1")).toEqual(before);
  });
});

describe("the audit log", () => {
  const sql = () => parley.database;
  const record = (at: string) => sql()`
    insert into audit_events (id, action, ip_address, at) values (${createId()}, 'user.exported', '10.0.0.1', ${at}) returning id`;

  test("can't be changed by update, delete or truncate", async () => {
    const [row] = await record("2026-01-01T00:00:00Z");
    const id = row?.id as string;
    const attempts = [
      () => sql()`update audit_events set action = 'user.created' where id = ${id}`,
      () => sql()`update audit_events set ip_address = null where id = ${id}`,
      () => sql()`delete from audit_events where id = ${id}`,
      () => sql()`truncate audit_events`,
      // The permission to erase an IP address allows no other change.
      () =>
        sql().begin(async (sql) => {
          await sql`select set_config('parley.audit_erasure', 'on', true)`;
          await sql`update audit_events set ip_address = null, action = 'user.created' where id = ${id}`;
        }),
      () =>
        sql().begin(async (sql) => {
          await sql`select set_config('parley.audit_erasure', 'on', true)`;
          await sql`update audit_events set ip_address = '10.0.0.2' where id = ${id}`;
        }),
      () =>
        sql().begin(async (sql) => {
          await sql`select set_config('parley.audit_erasure', 'on', true)`;
          await sql`update audit_events set ip_address = null, details = '{"field":"other"}' where id = ${id}`;
        }),
      () =>
        sql().begin(async (sql) => {
          await sql`select set_config('parley.audit_erasure', 'on', true)`;
          await sql`delete from audit_events where id = ${id}`;
        }),
      () =>
        sql().begin(async (sql) => {
          await sql`select set_config('parley.audit_retention', 'on', true)`;
          await sql`truncate audit_events`;
        }),
    ];
    for (const attempt of attempts)
      expect(
        await attempt().then(
          () => "done",
          (error: Error) => error.message,
        ),
      ).toBe("audit events are append-only");
    expect([...(await sql()`select action, ip_address from audit_events where id = ${id}`)]).toEqual([
      { action: "user.exported", ip_address: "10.0.0.1" },
    ]);
  });

  test("keeps entries for the configured time, and is append-only again after old entries are deleted", async () => {
    const [old] = await record(new Date(Date.now() - 31 * 86_400_000).toISOString());
    const [recent] = await record(new Date(Date.now() - 29 * 86_400_000).toISOString());
    const log = createAuditLog({ database: sql(), config: { AUDIT_RETENTION_DAYS: 30 } });
    expect(await log.deleteExpired()).toBeGreaterThanOrEqual(1);
    expect(await log.deleteExpired()).toBe(0);
    const remaining = await sql()`select id from audit_events where id in (${old?.id}, ${recent?.id})`;
    expect(remaining.map(({ id }) => id)).toEqual([recent?.id]);
    for (let connection = 0; connection < 12; connection += 1)
      expect(
        await sql()`delete from audit_events where id = ${recent?.id}`.then(
          () => "done",
          (error: Error) => error.message,
        ),
      ).toBe("audit events are append-only");
  });

  test("erases only one user's IP addresses and webhook hosts", async () => {
    const [me, other] = [createId(), createId()];
    const { record, eraseAddresses } = createAuditService();
    const createEntry = (actorId: string | null, target: string) => ({
      action: "user.changed" as const,
      actorId,
      credentialId: null,
      target: { type: "user" as const, id: target },
      ipAddress: "10.1.1.1",
    });
    const entries = [
      createEntry(me, me),
      createEntry(me, other),
      createEntry(null, me),
      createEntry(other, me),
      createEntry(other, other),
      createEntry(null, other),
    ];
    for (const entry of entries) await record(sql(), { ...entry, details: { host: "example.com", events: "*" } });
    await record(sql(), { ...createEntry(me, me), ipAddress: null, details: { host: "example.com" } });
    await sql().begin((sql) => eraseAddresses(sql, me));
    const rows = await sql()`
      select ip_address, details from audit_events where actor_id in (${me}, ${other}) or target_id in (${me}, ${other}) order by id`;
    const erased = { ip_address: null, details: { events: "*" } };
    const unchanged = { ip_address: "10.1.1.1", details: { host: "example.com", events: "*" } };
    expect([...rows]).toEqual([
      erased,
      erased,
      erased,
      unchanged,
      unchanged,
      unchanged,
      { ip_address: null, details: {} },
    ]);
  });

  test("uses an index for every filter", async () => {
    const plan = async (where: string) =>
      JSON.stringify(
        await sql().begin(async (sql) => {
          await sql`set local enable_seqscan = off`;
          return sql.unsafe(`explain select id from audit_events where ${where} order by id desc limit 51`);
        }),
      );
    expect(await plan("action = 'user.deleted'")).toContain("audit_events_action");
    expect(await plan(`actor_id = '${createId()}'`)).toContain("audit_events_actor");
    expect(await plan(`target_id = '${createId()}'`)).toContain("audit_events_target");
    expect(await plan(`id < '${createId()}'`)).toContain("audit_events_pkey");
  });
});
