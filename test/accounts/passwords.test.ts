import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { createId } from "../../src/lib/id.ts";
import { type Account, TEST_PASSWORD } from "../support/app.ts";
import { createRestClient } from "../support/rest.ts";
import { openSocket } from "../support/socket.ts";
import { type Administration, type AuditEvent, type Page, startAdministration } from "./start-administration.ts";

const NEW_PASSWORD = "set by an administrator";

let parley: Administration;
beforeAll(async () => {
  parley = await startAdministration();
});
afterAll(() => parley.stop());

const setPassword = (id: string, password = NEW_PASSWORD, rest = parley.admin) =>
  rest.request<{ code?: string; email?: string }>("PATCH", `/users/${id}`, { password });
const tryLogin = async (email: string, password: string) =>
  (await parley.fetch("/api/v1/auth/login", { json: { email, password } })).status;
const isLoggedIn = async ({ access_token: token }: Account) =>
  (await parley.fetch("/api/v1/me", { token })).status === 200;
const backdateSessions = (id: string) =>
  parley.database`update sessions set created_at = now() - interval '5 minutes 1 second' where user_id = ${id}`;

describe("setting a user's password as an administrator", () => {
  test("replaces the old password, revokes the user's sessions and closes their sockets", async () => {
    const anna = await parley.register();
    const ben = await parley.register();
    const socket = await openSocket(parley.url, { token: anna.access_token });
    const { status, body } = await setPassword(anna.user.id);
    expect({ status, email: body.email }).toEqual({ status: 200, email: anna.user.email });
    expect(JSON.stringify(body)).not.toContain(NEW_PASSWORD);
    expect((await socket.closed).code).toBe(4506);
    expect([await isLoggedIn(anna), await isLoggedIn(ben), await isLoggedIn(parley.admin.account)]).toEqual([
      false,
      true,
      true,
    ]);
    const refreshResponse = await parley.fetch("/api/v1/auth/refresh", { json: { refresh_token: anna.refresh_token } });
    expect(refreshResponse.status).toBe(401);
    expect(await tryLogin(anna.user.email, TEST_PASSWORD)).toBe(401);
    expect(await tryLogin(anna.user.email, NEW_PASSWORD)).toBe(200);
    expect(await tryLogin(ben.user.email, TEST_PASSWORD)).toBe(200);
  });

  test("is recorded in the audit log, without the password", async () => {
    const { user } = await parley.register();
    await setPassword(user.id);
    const { body } = await parley.admin.get<Page<AuditEvent>>(`/audit?target_id=${user.id}`);
    expect(body.data[0]).toMatchObject({ action: "user.password_changed", actor_id: parley.admin.id });
    expect(JSON.stringify(body)).not.toContain(NEW_PASSWORD);
  });

  test("can be combined with other changes, which aren't applied if the password is invalid", async () => {
    const { user } = await parley.register();
    const combinedChange = { password: NEW_PASSWORD, display_name: "Renamed", disabled: true };
    expect((await parley.admin.request("PATCH", `/users/${user.id}`, combinedChange)).body).toMatchObject({
      display_name: "Renamed",
      disabled: true,
    });
    const otherUser = await parley.register();
    const invalidChange = { password: "password", display_name: "Never" };
    expect((await parley.admin.requestProblem("PATCH", `/users/${otherUser.user.id}`, invalidChange)).status).toBe(422);
    expect(await isLoggedIn(otherUser)).toBe(true);
    expect(await setPassword(createId())).toMatchObject({ status: 404, body: { code: "not_found" } });
  });

  test("fails if the password equals the email address in the same request", async () => {
    const { user } = await parley.register();
    const email = `moved-${user.id}@example.com`;
    for (const password of [email.toUpperCase(), `moved-${user.id}`]) {
      const problem = await parley.admin.requestProblem("PATCH", `/users/${user.id}`, { email, password });
      expect(problem).toMatchObject({ status: 422, errors: [{ pointer: "#/password" }] });
    }
    const validChange = { email, password: `${NEW_PASSWORD} once more` };
    expect((await parley.admin.request("PATCH", `/users/${user.id}`, validChange)).body).toMatchObject({ email });
    expect(await tryLogin(email, validChange.password)).toBe(200);
  });

  test("is forbidden for ordinary users, and an ordinary key can't set an administrator's password", async () => {
    const anna = await parley.register();
    const outsider = createRestClient(parley, await parley.register());
    expect((await setPassword(anna.user.id, NEW_PASSWORD, outsider)).status).toBe(403);
    expect((await setPassword(outsider.id, NEW_PASSWORD, outsider)).status).toBe(403);
    const key = await parley.admin.request<{ key: string }>("POST", "/api-keys", {
      name: "k",
      scopes: ["users:write"],
    });
    const keyRest = createRestClient(parley, { ...parley.admin.account, access_token: key.body.key });
    // A key with users:write can't set any administrator's password, including its owner's.
    const otherAdmin = await parley.createAdministrator();
    expect((await setPassword(otherAdmin.id, NEW_PASSWORD, keyRest)).status).toBe(403);
    expect((await setPassword(keyRest.id, NEW_PASSWORD, keyRest)).status).toBe(403);
    expect(await tryLogin(otherAdmin.account.user.email, TEST_PASSWORD)).toBe(200);
    expect(await tryLogin(anna.user.email, TEST_PASSWORD)).toBe(200);
    expect((await setPassword(anna.user.id, NEW_PASSWORD, keyRest)).status).toBe(200);
  });

  test("requires a login within the last 5 minutes for the administrator's own account", async () => {
    const admin = await parley.createAdministrator();
    await backdateSessions(admin.id);
    const path = `/users/${admin.id}`;
    const changes: [string, object?][] = [
      ["PATCH", { password: NEW_PASSWORD }],
      ["PATCH", { email: `${createId()}@example.com` }],
      ["DELETE"],
    ];
    for (const [method, json] of changes)
      expect(await admin.requestProblem(method, path, json)).toMatchObject({
        status: 403,
        code: "reauthentication_required",
      });
    expect(await isLoggedIn(admin.account)).toBe(true);
    // Changes that don't affect the login still work.
    expect((await admin.request("PATCH", path, { display_name: "Me" })).status).toBe(200);
    const loginResponse = await parley.fetch("/api/v1/auth/login", {
      json: { email: admin.account.user.email, password: TEST_PASSWORD },
    });
    const freshRest = createRestClient(parley, (await loginResponse.json()) as Account);
    expect((await freshRest.request("PATCH", path, { password: NEW_PASSWORD })).status).toBe(200);
    expect([await isLoggedIn(freshRest.account), await isLoggedIn(admin.account)]).toEqual([false, false]);
    expect(await tryLogin(admin.account.user.email, NEW_PASSWORD)).toBe(200);
  });
});

describe("changing a user's email address as an administrator", () => {
  test("changes the email address used to log in, and fails if the new one is taken", async () => {
    const { user } = await parley.register();
    const otherAccount = await parley.register();
    const email = `Moved.${createId()}@example.com`;
    const changeUser = (json: object) => parley.admin.request<{ code?: string }>("PATCH", `/users/${user.id}`, json);
    expect(await changeUser({ email: otherAccount.user.email.toUpperCase() })).toMatchObject({
      status: 409,
      body: { code: "conflict" },
    });
    expect(await changeUser({ email })).toMatchObject({ status: 200, body: { ...user, email } });
    expect(await tryLogin(user.email, TEST_PASSWORD)).toBe(401);
    expect(await tryLogin(email.toLowerCase(), TEST_PASSWORD)).toBe(200);
    const { body } = await parley.admin.get<Page<AuditEvent>>(`/audit?target_id=${user.id}&action=user.changed`);
    expect(body.data).toMatchObject([{ actor_id: parley.admin.id, details: { field: "email" } }]);
  });
});

describe("changing one's own password", () => {
  const changePassword = (account: Account, extraFields: object = {}) =>
    createRestClient(parley, account).request<{ api_keys_active: number }>("POST", "/me/password", {
      current_password: TEST_PASSWORD,
      new_password: "a better one",
      ...extraFields,
    });
  /** Creates three keys, one of them expired, and returns the two valid ones. */
  async function createKeys(account: Account): Promise<string[]> {
    const keys: string[] = [];
    for (const name of ["one", "two", "three"]) {
      const json = { name, scopes: ["users:read"] };
      keys.push((await createRestClient(parley, account).request<{ key: string }>("POST", "/api-keys", json)).body.key);
    }
    await parley.database`update api_keys set expires_at = now() where name = 'three' and user_id = ${account.user.id}`;
    return keys.slice(0, 2);
  }
  const isKeyValid = async (token: string) => (await parley.fetch("/api/v1/me", { token })).status === 200;

  test("keeps API keys valid and returns how many there are", async () => {
    const anna = await parley.register();
    const keys = await createKeys(anna);
    expect(await changePassword(anna)).toMatchObject({ status: 200, body: { api_keys_active: 2 } });
    expect(await changePassword(await parley.register(), { revoke_api_keys: false })).toMatchObject({
      body: { api_keys_active: 0 },
    });
    for (const key of keys) expect(await isKeyValid(key)).toBe(true);
  });

  test("revokes the user's API keys and closes their sockets if requested", async () => {
    const anna = await parley.register();
    const ben = await parley.register();
    const keys = await createKeys(anna);
    const otherKeys = await createKeys(ben);
    const socket = await openSocket(parley.url, { token: keys[0] ?? "" });
    for (const key of keys) expect(await isKeyValid(key)).toBe(true);
    expect(await changePassword(anna, { revoke_api_keys: true })).toMatchObject({
      status: 200,
      body: { api_keys_active: 0 },
    });
    expect((await socket.closed).code).toBe(4506);
    for (const key of keys) expect(await isKeyValid(key)).toBe(false);
    for (const key of otherKeys) expect(await isKeyValid(key)).toBe(true);
    const { body } = await parley.admin.get<Page<AuditEvent>>(
      `/audit?target_id=${anna.user.id}&action=api_key.deleted`,
    );
    expect(body.data).toMatchObject([{ details: { keys: 3 } }]);
  });

  test("changes nothing if the current password is wrong", async () => {
    const anna = await parley.register();
    const [key = ""] = await createKeys(anna);
    expect((await changePassword(anna, { current_password: "wrong", revoke_api_keys: true })).status).toBe(403);
    expect(await isKeyValid(key)).toBe(true);
  });
});
