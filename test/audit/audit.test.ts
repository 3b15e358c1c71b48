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

const listAuditEntries = async (query = "") => (await admin.get<Page<AuditEvent>>(`/audit?${query}`)).body.data;
const listAuditActions = async (userId: string) =>
  (await listAuditEntries(`actor_id=${userId}`)).map(({ action }) => action).reverse();
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
    const otherAccount = await parley.register();
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
    expect(await listAuditEntries(`target_id=${account.user.id}&action=user.registered`)).toHaveLength(1);
    expect(await listAuditEntries(`target_id=${otherAccount.user.id}&actor_id=${account.user.id}`)).toEqual([]);
    const [newestEntry, secondEntry] = rows;
    const query = `actor_id=${account.user.id}`;
    // The end of a time span is exclusive, its start inclusive.
    expect((await listAuditEntries(`${query}&to=${newestEntry?.at}`)).map(({ id }) => id)).not.toContain(
      String(newestEntry?.id),
    );
    expect((await listAuditEntries(`${query}&from=${newestEntry?.at}`)).map(({ id }) => id)).toContain(
      String(newestEntry?.id),
    );
    expect((await listAuditEntries(`${query}&from=${secondEntry?.at}&to=${secondEntry?.at}`)).length).toBe(0);
    expect(await listAuditEntries("from=2000-01-01T00:00:00Z&to=2000-01-02T00:00:00Z")).toEqual([]);
    expect(await listAuditEntries("from=9998-01-01T00:00:00Z")).toEqual([]);
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
    const secondLogin = await logIn(parley, account.user.email);
    await parley.fetch("/api/v1/auth/logout", { json: { refresh_token: secondLogin.refresh_token } });
    const thirdLogin = await logIn(parley, account.user.email);
    const { body } = await createRestClient(parley, thirdLogin).get<Page<{ id: string; current: boolean }>>(
      "/me/sessions",
    );
    const thirdSessionId = body.data.find(({ current }) => current)?.id ?? "";
    await rest.request("DELETE", `/me/sessions/${thirdSessionId}`);
    await rest.request("POST", "/me/password", { current_password: TEST_PASSWORD, new_password: "another password" });
    await parley.fetch("/api/v1/me/export", { token: account.access_token });
    expect(await listAuditActions(account.user.id)).toEqual([
      "user.registered",
      "user.logged_in",
      "user.logged_in",
      "session.ended",
      "user.logged_in",
      "session.ended",
      "user.password_changed",
      "user.exported",
    ]);
    const endedSessions = await listAuditEntries(`actor_id=${account.user.id}&action=session.ended`);
    expect(endedSessions.map(({ details }) => details)).toEqual([{ reason: "ended" }, { reason: "logout" }]);
    expect(endedSessions[0]?.target).toEqual({ type: "session", id: thirdSessionId });
  });

  test("failed logins for known and unknown email addresses, but not the email addresses", async () => {
    const { user } = await parley.register();
    const unknownEmail = `${createId()}@example.com`;
    const failedLoginsBefore = (await listAuditEntries("action=user.login_failed")).length;
    for (const email of [user.email, unknownEmail]) {
      const response = await tryLogin(email, "wrong password");
      expect(((await response.json()) as { code: string }).code).toBe("invalid_credentials");
    }
    const failedLogins = await listAuditEntries("action=user.login_failed");
    expect(failedLogins.length).toBe(failedLoginsBefore + 2);
    const [unknownEmailEntry, knownEmailEntry] = failedLogins;
    const entry = { actor_id: null, ip_address: "127.0.0.1", details: { reason: "credentials" } };
    expect(unknownEmailEntry).toMatchObject({ ...entry, target: null });
    expect(knownEmailEntry).toMatchObject({ ...entry, target: { type: "user", id: user.id } });
    const text = JSON.stringify(await listAuditEntries("limit=200"));
    for (const secret of [user.email, unknownEmail, "wrong password", TEST_PASSWORD])
      expect(text).not.toContain(secret);
  });

  test("a reused refresh token, with its session", async () => {
    const account = await parley.register();
    const postRefresh = () => parley.fetch("/api/v1/auth/refresh", { json: { refresh_token: account.refresh_token } });
    await postRefresh();
    await parley.database`update sessions set rotated_at = now() - interval '1 min' where user_id = ${account.user.id}`;
    expect(((await (await postRefresh()).json()) as { code: string }).code).toBe("token_reused");
    expect((await postRefresh()).status).toBe(401);
    const [session] = await parley.database`select id from sessions where user_id = ${account.user.id}`;
    const [entry, ...otherEntries] = await listAuditEntries(`target_id=${account.user.id}&action=session.token_reused`);
    expect(otherEntries).toEqual([]);
    expect(entry).toMatchObject({ actor_id: null, credential_id: session?.id, ip_address: "127.0.0.1" });
  });

  test("no entry for a request that changes nothing", async () => {
    const account = await parley.register();
    const rest = createRestClient(parley, account);
    const newestBefore = await listAuditEntries("limit=1");
    await rest.request("DELETE", `/me/sessions/${createId()}`);
    await rest.request("DELETE", "/me/sessions");
    await rest.request("POST", "/me/password", { current_password: "wrong", new_password: "another password" });
    await parley.fetch("/api/v1/auth/logout", { json: { refresh_token: "prt_x" } });
    await parley.fetch("/api/v1/auth/register", { json: { email: account.user.email, password: TEST_PASSWORD } });
    expect(await listAuditEntries("limit=1")).toEqual(newestBefore);
  });
});

describe("the audit log", () => {
  const getSql = () => parley.database;
  const insertEntry = (at: string) => getSql()`
    insert into audit_events (id, action, ip_address, at) values (${createId()}, 'user.exported', '10.0.0.1', ${at}) returning id`;

  test("can't be changed by update, delete or truncate", async () => {
    const [row] = await insertEntry("2026-01-01T00:00:00Z");
    const id = row?.id as string;
    const attempts = [
      () => getSql()`update audit_events set action = 'user.created' where id = ${id}`,
      () => getSql()`update audit_events set ip_address = null where id = ${id}`,
      () => getSql()`delete from audit_events where id = ${id}`,
      () => getSql()`truncate audit_events`,
      // The permission to erase an IP address allows no other change.
      () =>
        getSql().begin(async (sql) => {
          await sql`select set_config('parley.audit_erasure', 'on', true)`;
          await sql`update audit_events set ip_address = null, action = 'user.created' where id = ${id}`;
        }),
      () =>
        getSql().begin(async (sql) => {
          await sql`select set_config('parley.audit_erasure', 'on', true)`;
          await sql`update audit_events set ip_address = '10.0.0.2' where id = ${id}`;
        }),
      () =>
        getSql().begin(async (sql) => {
          await sql`select set_config('parley.audit_erasure', 'on', true)`;
          await sql`update audit_events set ip_address = null, details = '{"field":"other"}' where id = ${id}`;
        }),
      () =>
        getSql().begin(async (sql) => {
          await sql`select set_config('parley.audit_erasure', 'on', true)`;
          await sql`delete from audit_events where id = ${id}`;
        }),
      () =>
        getSql().begin(async (sql) => {
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
    expect([...(await getSql()`select action, ip_address from audit_events where id = ${id}`)]).toEqual([
      { action: "user.exported", ip_address: "10.0.0.1" },
    ]);
  });

  test("keeps entries for the configured time, and is append-only again after old entries are deleted", async () => {
    const [oldEntry] = await insertEntry(new Date(Date.now() - 31 * 86_400_000).toISOString());
    const [recentEntry] = await insertEntry(new Date(Date.now() - 29 * 86_400_000).toISOString());
    const log = createAuditLog({ database: getSql(), config: { AUDIT_RETENTION_DAYS: 30 } });
    expect(await log.deleteExpired()).toBeGreaterThanOrEqual(1);
    expect(await log.deleteExpired()).toBe(0);
    const remainingEntries =
      await getSql()`select id from audit_events where id in (${oldEntry?.id}, ${recentEntry?.id})`;
    expect(remainingEntries.map(({ id }) => id)).toEqual([recentEntry?.id]);
    for (let connection = 0; connection < 12; connection += 1)
      expect(
        await getSql()`delete from audit_events where id = ${recentEntry?.id}`.then(
          () => "done",
          (error: Error) => error.message,
        ),
      ).toBe("audit events are append-only");
  });

  test("erases only one user's IP addresses and webhook hosts", async () => {
    const [userId, otherUserId] = [createId(), createId()];
    const { record, eraseAddresses } = createAuditService();
    const createEntry = (actorId: string | null, target: string) => ({
      action: "user.changed" as const,
      actorId,
      credentialId: null,
      target: { type: "user" as const, id: target },
      ipAddress: "10.1.1.1",
    });
    const entries = [
      createEntry(userId, userId),
      createEntry(userId, otherUserId),
      createEntry(null, userId),
      createEntry(otherUserId, userId),
      createEntry(otherUserId, otherUserId),
      createEntry(null, otherUserId),
    ];
    for (const entry of entries) await record(getSql(), { ...entry, details: { host: "example.com", events: "*" } });
    await record(getSql(), { ...createEntry(userId, userId), ipAddress: null, details: { host: "example.com" } });
    await getSql().begin((sql) => eraseAddresses(sql, userId));
    const rows = await getSql()`
      select ip_address, details from audit_events where actor_id in (${userId}, ${otherUserId}) or target_id in (${userId}, ${otherUserId}) order by id`;
    const erasedEntry = { ip_address: null, details: { events: "*" } };
    const unchangedEntry = { ip_address: "10.1.1.1", details: { host: "example.com", events: "*" } };
    expect([...rows]).toEqual([
      erasedEntry,
      erasedEntry,
      erasedEntry,
      unchangedEntry,
      unchangedEntry,
      unchangedEntry,
      { ip_address: null, details: {} },
    ]);
  });

  test("uses an index for every filter", async () => {
    const explain = async (where: string) =>
      JSON.stringify(
        await getSql().begin(async (sql) => {
          await sql`set local enable_seqscan = off`;
          return sql.unsafe(`explain select id from audit_events where ${where} order by id desc limit 51`);
        }),
      );
    expect(await explain("action = 'user.deleted'")).toContain("audit_events_action");
    expect(await explain(`actor_id = '${createId()}'`)).toContain("audit_events_actor");
    expect(await explain(`target_id = '${createId()}'`)).toContain("audit_events_target");
    expect(await explain(`id < '${createId()}'`)).toContain("audit_events_pkey");
  });
});
