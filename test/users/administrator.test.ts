import { afterAll, beforeAll, expect, test } from "bun:test";
import { type Accounts, PASSWORD, startAccounts } from "../auth/start-accounts.ts";
import { unknownOrigin } from "../support/request-origin.ts";

let accounts: Accounts;
beforeAll(async () => {
  accounts = await startAccounts();
});
afterAll(() => accounts.stop());

test("a newly created administrator can log in", async () => {
  const { user, isNew } = await accounts.users.createAdministrator("root@example.com", PASSWORD);
  expect({ role: user.role, isNew }).toEqual({ role: "admin", isNew: true });
  expect((await accounts.login("root@example.com")).user.role).toBe("admin");
});

test("promoting an existing user keeps the password, and gives existing tokens administrator rights", async () => {
  const existing = await accounts.register();
  const promoted = await accounts.users.createAdministrator(existing.user.email.toUpperCase(), "another password");
  expect(promoted).toEqual({ user: { ...existing.user, role: "admin" }, isNew: false });
  expect((await accounts.login(existing.user.email)).user.role).toBe("admin");
  expect((await accounts.auth.identify(existing.access_token, unknownOrigin)).user.role).toBe("admin");
});

test("the operator's actions are audited once, without an actor", async () => {
  const existing = await accounts.register();
  for (let count = 0; count < 2; count++) await accounts.users.createAdministrator(existing.user.email, PASSWORD);
  const { user: created } = await accounts.users.createAdministrator("operator@example.com", PASSWORD);
  const entries = await accounts.database`
    select action, target_id, details from audit_events where actor_id is null order by id desc limit 2`;
  const details = { role: "admin" };
  expect([...entries]).toEqual([
    { action: "user.created", target_id: created.id, details },
    { action: "user.role_changed", target_id: existing.user.id, details },
  ]);
});

test("the configured administrator is created once by 8 concurrent instances, and never changed", async () => {
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

test("the configured administrator is not created if an administrator exists or a user has the email", async () => {
  const separateAccounts = await startAccounts();
  try {
    const ensure = (email: string) =>
      separateAccounts.users.ensureFirstAdministrator({ ADMIN_EMAIL: email, ADMIN_PASSWORD: PASSWORD });
    const readRole = async (key: string) =>
      (await separateAccounts.database`select role from users where email_key = ${key}`)[0]?.role;
    // An ordinary user registered with the email.
    const otherUser = await separateAccounts.register("Boss@example.com");
    expect(await ensure("boss@EXAMPLE.com")).toBe("Boss@example.com");
    expect(await readRole("boss@example.com")).toBe("user");
    expect((await separateAccounts.login(otherUser.user.email)).user.role).toBe("user");
    expect(await ensure("first@example.com")).toBeNull();
    expect(await readRole("first@example.com")).toBe("admin");
    // Once an administrator exists, no second one is created, and no former one is restored.
    expect(await ensure("second@example.com")).toBeNull();
    expect(await readRole("second@example.com")).toBeUndefined();
    await separateAccounts.users.createAdministrator("other@example.com", PASSWORD);
    await separateAccounts.database`update users set role = 'user' where email_key = 'first@example.com'`;
    expect(await ensure("first@example.com")).toBe("first@example.com");
    expect(await readRole("first@example.com")).toBe("user");
    await separateAccounts.database`delete from users where email_key = 'first@example.com'`;
    expect(await ensure("first@example.com")).toBeNull();
    expect(await readRole("first@example.com")).toBeUndefined();
    // A disabled administrator does not count, because that user can't log in.
    await separateAccounts.database`update users set disabled_at = now() where email_key = 'other@example.com'`;
    expect(await ensure("first@example.com")).toBeNull();
    expect(await readRole("first@example.com")).toBe("admin");
  } finally {
    await separateAccounts.stop();
  }
});

test("an administrator needs a valid email and password", async () => {
  for (const [email, password] of [
    ["nobody", PASSWORD],
    ["a@example.com", "short"],
    ["a@example.com", "x".repeat(129)],
  ])
    expect(accounts.users.createAdministrator(email ?? "", password ?? "")).rejects.toMatchObject({ code: "invalid" });
});
