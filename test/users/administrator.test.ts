import { afterAll, beforeAll, expect, test } from "bun:test";
import { type Accounts, PASSWORD, startAccounts } from "../auth/start-accounts.ts";
import { unknownOrigin } from "../support/request-origin.ts";

let accounts: Accounts;
beforeAll(async () => {
  accounts = await startAccounts();
});
afterAll(() => accounts.stop());

test("is created with a password that works for logging in", async () => {
  const { user, isNew } = await accounts.users.createAdministrator("root@example.com", PASSWORD);
  expect({ role: user.role, isNew }).toEqual({ role: "admin", isNew: true });
  expect((await accounts.login("root@example.com")).user.role).toBe("admin");
});

test("promoting an existing user keeps the password; existing tokens gain administrator rights", async () => {
  const known = await accounts.register();
  const raised = await accounts.users.createAdministrator(known.user.email.toUpperCase(), "another password");
  expect(raised).toEqual({ user: { ...known.user, role: "admin" }, isNew: false });
  expect((await accounts.login(known.user.email)).user.role).toBe("admin");
  expect((await accounts.auth.identify(known.access_token, unknownOrigin)).user.role).toBe("admin");
});

test("the operator's actions are audited once, without an actor", async () => {
  const known = await accounts.register();
  for (let count = 0; count < 2; count++) await accounts.users.createAdministrator(known.user.email, PASSWORD);
  const { user: made } = await accounts.users.createAdministrator("operator@example.com", PASSWORD);
  const entries = await accounts.database`
    select action, target_id, details from audit_events where actor_id is null order by id desc limit 2`;
  const details = { role: "admin" };
  expect([...entries]).toEqual([
    { action: "user.created", target_id: made.id, details },
    { action: "user.role_changed", target_id: known.user.id, details },
  ]);
});

test("from the configuration is created once by 8 concurrent instances, and never changed again", async () => {
  await accounts.database`update users set role = 'user'`;
  const config = { ADMIN_EMAIL: "First@example.com", ADMIN_PASSWORD: PASSWORD };
  await Promise.all(Array.from({ length: 8 }, () => accounts.users.ensureFirstAdministrator(config)));
  const rows =
    await accounts.database`select id, role, password_hash, updated_at from users where email_key = 'first@example.com'`;
  expect(rows).toHaveLength(1);
  expect(rows[0]?.role).toBe("admin");
  await accounts.users.ensureFirstAdministrator({ ...config, ADMIN_PASSWORD: "changed in the settings" });
  expect(
    await accounts.database`select id, role, password_hash, updated_at from users where email_key = 'first@example.com'`,
  ).toEqual(rows);
  await accounts.users.ensureFirstAdministrator({});
});

test("from the configuration is not created if one exists; a user with its address is left unchanged, and logged", async () => {
  const alone = await startAccounts();
  try {
    const ensure = (email: string) =>
      alone.users.ensureFirstAdministrator({ ADMIN_EMAIL: email, ADMIN_PASSWORD: PASSWORD });
    const roleOf = async (key: string) =>
      (await alone.database`select role from users where email_key = ${key}`)[0]?.role;
    // Another user registered the address first.
    const stranger = await alone.register("Boss@example.com");
    expect(await ensure("boss@EXAMPLE.com")).toBe("Boss@example.com");
    expect(await roleOf("boss@example.com")).toBe("user");
    expect((await alone.login(stranger.user.email)).user.role).toBe("user");
    expect(await ensure("first@example.com")).toBeNull();
    expect(await roleOf("first@example.com")).toBe("admin");
    // From now on it creates none: no second one, and no restored one.
    expect(await ensure("second@example.com")).toBeNull();
    expect(await roleOf("second@example.com")).toBeUndefined();
    await alone.users.createAdministrator("other@example.com", PASSWORD);
    await alone.database`update users set role = 'user' where email_key = 'first@example.com'`;
    expect(await ensure("first@example.com")).toBe("first@example.com");
    expect(await roleOf("first@example.com")).toBe("user");
    await alone.database`delete from users where email_key = 'first@example.com'`;
    expect(await ensure("first@example.com")).toBeNull();
    expect(await roleOf("first@example.com")).toBeUndefined();
    // A disabled one does not count, because no one could log in.
    await alone.database`update users set disabled_at = now() where email_key = 'other@example.com'`;
    expect(await ensure("first@example.com")).toBeNull();
    expect(await roleOf("first@example.com")).toBe("admin");
  } finally {
    await alone.stop();
  }
});

test("needs a valid address and password", async () => {
  for (const [email, password] of [
    ["nobody", PASSWORD],
    ["a@example.com", "short"],
    ["a@example.com", "x".repeat(129)],
  ])
    expect(accounts.users.createAdministrator(email ?? "", password ?? "")).rejects.toMatchObject({ code: "invalid" });
});
