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
  const existingAccount = await accounts.register();
  const promotedUser = await accounts.users.createAdministrator(
    existingAccount.user.email.toUpperCase(),
    "another password",
  );
  expect(promotedUser).toEqual({ user: { ...existingAccount.user, role: "admin" }, isNew: false });
  expect((await accounts.login(existingAccount.user.email)).user.role).toBe("admin");
  expect((await accounts.auth.identify(existingAccount.access_token, unknownOrigin)).user.role).toBe("admin");
});

test("the operator's actions are audited once, without an actor", async () => {
  const existingAccount = await accounts.register();
  for (let count = 0; count < 2; count++)
    await accounts.users.createAdministrator(existingAccount.user.email, PASSWORD);
  const { user: createdUser } = await accounts.users.createAdministrator("operator@example.com", PASSWORD);
  const entries = await accounts.database`
    select action, target_id, details from audit_events where actor_id is null order by id desc limit 2`;
  const details = { role: "admin" };
  expect([...entries]).toEqual([
    { action: "user.created", target_id: createdUser.id, details },
    { action: "user.role_changed", target_id: existingAccount.user.id, details },
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
    const ensureAdministrator = (email: string) =>
      separateAccounts.users.ensureFirstAdministrator({ ADMIN_EMAIL: email, ADMIN_PASSWORD: PASSWORD });
    const getRole = async (key: string) =>
      (await separateAccounts.database`select role from users where email_key = ${key}`)[0]?.role;
    // An ordinary user registered with the email.
    const otherUser = await separateAccounts.register("Boss@example.com");
    expect(await ensureAdministrator("boss@EXAMPLE.com")).toBe("Boss@example.com");
    expect(await getRole("boss@example.com")).toBe("user");
    expect((await separateAccounts.login(otherUser.user.email)).user.role).toBe("user");
    expect(await ensureAdministrator("first@example.com")).toBeNull();
    expect(await getRole("first@example.com")).toBe("admin");
    // Once an administrator exists, no second administrator is created, and no former administrator is restored.
    expect(await ensureAdministrator("second@example.com")).toBeNull();
    expect(await getRole("second@example.com")).toBeUndefined();
    await separateAccounts.users.createAdministrator("other@example.com", PASSWORD);
    await separateAccounts.database`update users set role = 'user' where email_key = 'first@example.com'`;
    expect(await ensureAdministrator("first@example.com")).toBe("first@example.com");
    expect(await getRole("first@example.com")).toBe("user");
    await separateAccounts.database`delete from users where email_key = 'first@example.com'`;
    expect(await ensureAdministrator("first@example.com")).toBeNull();
    expect(await getRole("first@example.com")).toBeUndefined();
    // A disabled administrator does not count, because that user can't log in.
    await separateAccounts.database`update users set disabled_at = now() where email_key = 'other@example.com'`;
    expect(await ensureAdministrator("first@example.com")).toBeNull();
    expect(await getRole("first@example.com")).toBe("admin");
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
