import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { createId } from "../../src/lib/id.ts";
import { IDENTITY_CACHE_MS } from "../../src/modules/auth/limits.ts";
import { TEST_PASSWORD } from "../support/app.ts";
import { createRestClient, type RestClient } from "../support/rest.ts";
import { advanceClock, resetClock } from "../support/test-clock.ts";
import {
  type Administration,
  type AuditEvent,
  logIn,
  type Page,
  startAdministration,
  type User,
} from "./start-administration.ts";

let parley: Administration;
let admin: RestClient;
let user: RestClient;
beforeAll(async () => {
  parley = await startAdministration();
  admin = parley.admin;
  user = createRestClient(parley, await parley.register());
});
afterAll(resetClock);
afterAll(() => parley.stop());

const listAuditEntries = async (id: string) =>
  (await admin.get<Page<AuditEvent>>(`/audit?target_id=${id}`)).body.data.map(({ action, details }) => ({
    action,
    details,
  }));

test("only administrators can manage users", async () => {
  const routes: [string, string, unknown?][] = [
    ["GET", "/users"],
    ["GET", `/users?q=${user.account.user.email}`],
    ["POST", "/users", { email: "new@example.com", password: TEST_PASSWORD }],
    ["GET", `/users/${user.id}`],
    ["GET", `/users/${admin.id}`],
    ["PATCH", `/users/${user.id}`, { role: "admin" }],
    ["DELETE", `/users/${admin.id}`],
    ["DELETE", `/users/${admin.id}/sessions`],
  ];
  for (const [method, path, json] of routes) {
    expect(await user.requestProblem(method, path, json)).toMatchObject({ status: 403, code: "forbidden" });
    const response = await parley.fetch(`/api/v1${path}`, { method, ...(json !== undefined && { json }) });
    expect({ method, path, status: response.status }).toEqual({ method, path, status: 401 });
  }
  expect((await user.get<User>("/me")).body).toMatchObject({ role: "user", disabled: false });
  expect((await admin.get<User>("/me")).status).toBe(200);
});

test("only administrators' keys with the required scope can manage users", async () => {
  const createKey = async (rest: RestClient, scopes: string[]) =>
    (await rest.request<{ key: string }>("POST", "/api-keys", { name: "k", scopes })).body.key;
  const readKey = await createKey(admin, ["users:read"]);
  const writeKey = await createKey(admin, ["users:write"]);
  const unrelatedKey = await createKey(admin, ["messages:write"]);
  const userKey = await createKey(user, ["users:read", "users:write"]);
  const fetchStatus = async (token: string, method: string, path: string, json?: unknown) =>
    (await parley.fetch(`/api/v1${path}`, { token, method, ...(json !== undefined && { json }) })).status;
  for (const [key, readStatus, writeStatus] of [
    [readKey, 200, 403],
    [writeKey, 403, 200],
    [unrelatedKey, 403, 403],
    [userKey, 403, 403],
  ] as const) {
    expect(await fetchStatus(key, "GET", "/users")).toBe(readStatus);
    expect(await fetchStatus(key, "GET", `/users/${user.id}`)).toBe(readStatus);
    expect(await fetchStatus(key, "PATCH", `/users/${user.id}`, {})).toBe(writeStatus);
    expect(await fetchStatus(key, "DELETE", `/users/${createId()}`)).toBe(writeStatus === 200 ? 404 : 403);
    expect(await fetchStatus(key, "DELETE", `/users/${createId()}/sessions`)).toBe(writeStatus === 200 ? 404 : 403);
  }
});

test("a key needs the admin scope to create, change or delete administrators", async () => {
  const createKey = async (scopes: string[]) =>
    (await admin.request<{ key: string }>("POST", "/api-keys", { name: "k", scopes })).body.key;
  const { user: ordinaryUser } = await parley.register();
  const fetchStatus = async (token: string, method: string, path: string, json: unknown) =>
    (await parley.fetch(`/api/v1${path}`, { token, method, json })).status;
  const createUserInput = () => ({ email: `${createId()}@example.com`, password: "correct horse battery" });
  const writeKey = await createKey(["users:write"]);
  expect(await fetchStatus(writeKey, "PATCH", `/users/${ordinaryUser.id}`, { role: "admin" })).toBe(403);
  expect(await fetchStatus(writeKey, "POST", "/users", { ...createUserInput(), role: "admin" })).toBe(403);
  expect(await fetchStatus(writeKey, "POST", "/users", { ...createUserInput(), role: "user" })).toBe(201);
  const adminKey = await createKey(["admin"]);
  const { body: createdUser } = await admin.request<User>("POST", "/users", createUserInput());
  for (const id of [createdUser.id, ordinaryUser.id])
    expect(await fetchStatus(adminKey, "PATCH", `/users/${id}`, { role: "admin" })).toBe(200);
  for (const [method, path, json] of [
    ["PATCH", "", { role: "user" }],
    ["PATCH", "", { disabled: true }],
    ["DELETE", "", undefined],
    ["DELETE", "/sessions", undefined],
  ] as const)
    expect(await fetchStatus(writeKey, method, `/users/${createdUser.id}${path}`, json)).toBe(403);
  for (const id of [createdUser.id, ordinaryUser.id])
    expect(await fetchStatus(adminKey, "PATCH", `/users/${id}`, { role: "user" })).toBe(200);
  expect(await fetchStatus(writeKey, "PATCH", `/users/${createdUser.id}`, { disabled: true })).toBe(200);
});

describe("the list of users", () => {
  test("is paginated, newest first", async () => {
    for (let count = 0; count < 3; count += 1) await parley.register();
    const { rows, pages } = await admin.listAll<User>("/users", 2);
    expect(rows.length).toBeGreaterThanOrEqual(5);
    expect(pages.slice(0, -1).every((rowCount) => rowCount === 2)).toBe(true);
    const ids = rows.map(({ id }) => id);
    expect(ids).toEqual([...new Set(ids)].sort().reverse());
    expect(Object.keys(rows[0] ?? {}).sort()).toEqual([
      "created_at",
      "disabled",
      "display_name",
      "email",
      "id",
      "role",
    ]);
    for (const invalidCursor of ["x", Buffer.from('["v1","no id"]').toString("base64url")])
      expect(await admin.requestProblem("GET", `/users?cursor=${invalidCursor}`)).toMatchObject({
        status: 400,
        code: "bad_cursor",
      });
  });

  test("can be searched for any part of an email address or name, ignoring case", async () => {
    const matchingUser = await parley.createNamedUser("Zoë Ärmel 100%_sure", "quokka_fan");
    await parley.createNamedUser("Zoo Worker 100 sure", "quokkaxfan");
    const searchUsers = async (q: string) =>
      (await admin.get<Page<User>>(`/users?q=${encodeURIComponent(q)}`)).body.data.map(({ id }) => id);
    for (const q of ["quokka_fan", "QUOKKA_F", "zoë ärm", "ÄRMEL", "100%", "0%_s", "ë ä", "ë", "%"])
      expect({ q, found: await searchUsers(q) }).toEqual({ q, found: [matchingUser.user.id] });
    expect(await searchUsers("quokka")).toHaveLength(2);
    for (const q of ["nobody has this", "quokka%", "quokka.*", "' or 1=1 --", "\\", '"'])
      expect({ q, found: await searchUsers(q) }).toEqual({ q, found: [] });
    expect((await searchUsers("")).length).toBeGreaterThan(2);
    expect((await searchUsers("  ")).length).toBeGreaterThan(2);
    for (const q of ["%00", "a%00b", "x".repeat(255)])
      expect((await admin.requestProblem("GET", `/users?q=${q}`)).status).toBe(422);
  });

  test("keeps the search term on every page", async () => {
    for (const localPart of ["wombat.a", "wombat.b", "wombat.c"]) await parley.createNamedUser("Somebody", localPart);
    const { rows, pages } = await admin.listAll<User>("/users?q=wombat", 2);
    expect(pages).toEqual([2, 1]);
    expect(rows.every(({ email }) => email.startsWith("wombat"))).toBe(true);
  });
});

describe("creating a user", () => {
  test("returns a new user or administrator, who can then log in", async () => {
    for (const role of ["user", "admin"] as const) {
      const email = `${createId()}@Example.com`;
      const { status, headers, body } = await admin.request<User>("POST", "/users", {
        email,
        password: TEST_PASSWORD,
        display_name: "New",
        role,
      });
      expect({ status, body }).toMatchObject({
        status: 201,
        body: { email, display_name: "New", role, disabled: false },
      });
      expect(headers.get("location")).toBe(`/api/v1/users/${body.id}`);
      expect((await admin.get<User>(`/users/${body.id}`)).body).toEqual(body);
      expect((await logIn(parley, email)).user as User).toEqual(body);
      expect(await listAuditEntries(body.id)).toContainEqual({ action: "user.created", details: { role } });
      if (role === "admin") await admin.request("DELETE", `/users/${body.id}`);
    }
  });

  test("fails if the email address is taken or a field is invalid", async () => {
    const { email } = user.account.user;
    const takenInput = { email: email.toUpperCase(), password: TEST_PASSWORD };
    expect(await admin.requestProblem("POST", "/users", takenInput)).toMatchObject({ status: 409, code: "conflict" });
    for (const json of [
      {},
      { email: "nobody", password: TEST_PASSWORD },
      { email: "a@example.com", password: "short" },
      { email: "a@example.com", password: TEST_PASSWORD, role: "root" },
      { email: "a@example.com", password: TEST_PASSWORD, disabled: true },
    ])
      expect((await admin.requestProblem("POST", "/users", json)).status).toBe(422);
  });
});

describe("changing a user", () => {
  test("applies a new role immediately, even to open sessions", async () => {
    const rest = createRestClient(parley, await parley.register());
    expect((await rest.get("/users")).status).toBe(403);
    const response = await admin.request<User>("PATCH", `/users/${rest.id}`, { role: "admin" });
    expect(response).toMatchObject({ status: 200, body: { id: rest.id, role: "admin" } });
    expect((await rest.get("/users")).status).toBe(200);
    await admin.request("PATCH", `/users/${rest.id}`, { role: "user" });
    expect((await rest.get("/users")).status).toBe(403);
    const roles = (await listAuditEntries(rest.id)).filter(({ action }) => action === "user.role_changed");
    expect(roles.map(({ details }) => details)).toEqual([{ role: "user" }, { role: "admin" }]);
  });

  test("doesn't record a new name in the audit log", async () => {
    const { user: originalUser } = await parley.register();
    const { body } = await admin.request<User>("PATCH", `/users/${originalUser.id}`, { display_name: " Grace " });
    expect(body).toMatchObject({ id: originalUser.id, display_name: "Grace", email: originalUser.email });
    expect(await listAuditEntries(originalUser.id)).toContainEqual({
      action: "user.changed",
      details: { field: "display_name" },
    });
    expect(JSON.stringify(await listAuditEntries(originalUser.id))).not.toContain("Grace");
  });

  test("to the current values has no effect and isn't recorded", async () => {
    const { user: originalUser } = await parley.register();
    const entries = await listAuditEntries(originalUser.id);
    const sameValues = { role: "user", disabled: false, display_name: originalUser.display_name };
    for (const json of [{}, sameValues]) {
      const { status, body } = await admin.request<User>("PATCH", `/users/${originalUser.id}`, json);
      expect({ status, body }).toEqual({ status: 200, body: originalUser as User });
    }
    expect(await listAuditEntries(originalUser.id)).toEqual(entries);
  });

  test("fails if the user, a field or a value is unknown", async () => {
    const path = `/users/${user.id}`;
    for (const json of [
      { role: "root" },
      { disabled: "yes" },
      { display_name: "" },
      { email: "x" },
      { password: "short" },
      [],
    ])
      expect((await admin.requestProblem("PATCH", path, json)).status).toBe(422);
    for (const method of ["GET", "PATCH", "DELETE"]) {
      const json = method === "PATCH" ? {} : undefined;
      expect(await admin.requestProblem(method, `/users/${createId()}`, json)).toMatchObject({ code: "not_found" });
    }
    expect(await admin.requestProblem("DELETE", `/users/${createId()}/sessions`)).toMatchObject({ code: "not_found" });
  });
});

describe("the last administrator", () => {
  test("can't be demoted, disabled or deleted by anyone", async () => {
    const changes = [{ role: "user" }, { disabled: true }, { role: "user", disabled: true }];
    for (const json of changes)
      expect(await admin.requestProblem("PATCH", `/users/${admin.id}`, json)).toMatchObject({
        status: 409,
        code: "conflict",
      });
    expect((await admin.requestProblem("DELETE", `/users/${admin.id}`)).status).toBe(409);
    expect((await admin.requestProblem("DELETE", "/me")).status).toBe(409);
    // A disabled administrator isn't counted.
    const otherAdmin = await parley.createAdministrator();
    await admin.request("PATCH", `/users/${otherAdmin.id}`, { disabled: true });
    expect((await admin.requestProblem("PATCH", `/users/${admin.id}`, { disabled: true })).status).toBe(409);
    await admin.request("DELETE", `/users/${otherAdmin.id}`);
    expect((await admin.get<User>("/me")).body).toMatchObject({ role: "admin", disabled: false });
  });

  test.each([
    ["demote", "PATCH", { role: "user" }],
    ["disable", "PATCH", { disabled: true }],
    ["delete", "DELETE", undefined],
  ])("remains when three administrators concurrently %s each other", async (_, method, json) => {
    // The original administrator is demoted, so that only these three exist.
    const administrators = [
      await parley.createAdministrator(),
      await parley.createAdministrator(),
      await parley.createAdministrator(),
    ];
    const [first, second, third] = administrators as [RestClient, RestClient, RestClient];
    await first.request("PATCH", `/users/${admin.id}`, { role: "user" });
    const pairs: [RestClient, RestClient][] = [
      [first, second],
      [second, third],
      [third, first],
      [second, first],
      [third, second],
      [first, third],
    ];
    const responses = await Promise.all(
      pairs.map(([actor, target]) => actor.request(method, `/users/${target.id}`, json)),
    );
    const statuses = responses.map(({ status }) => status);
    // Disabling a user who is already disabled succeeds without effect.
    expect(statuses.filter((status) => status < 300).length).toBeGreaterThanOrEqual(2);
    expect(statuses.filter((status) => status >= 400).length).toBeGreaterThanOrEqual(3);
    expect(statuses.every((status) => [200, 204, 401, 403, 404, 409].includes(status))).toBe(true);
    const remainingAdministrators =
      await parley.database`select id from users where role = 'admin' and disabled_at is null`;
    expect(remainingAdministrators).toHaveLength(1);
    await parley.database`update users set role = 'admin' where id = ${admin.id}`;
    await parley.database`update users set role = 'user' where id = ${remainingAdministrators[0]?.id}`;
    advanceClock(IDENTITY_CACHE_MS);
  });
});
