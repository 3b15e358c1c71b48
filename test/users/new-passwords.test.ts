import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { type Administration, startAdministration, type User } from "../accounts/start-administration.ts";
import { TEST_PASSWORD } from "../support/app.ts";
import { createRestClient } from "../support/rest.ts";

let parley: Administration;
beforeAll(async () => {
  parley = await startAdministration();
});
afterAll(() => parley.stop());

let emailCount = 0;
const createEmail = () => `user-${++emailCount}@example.com`;

type PasswordResult = { status: number; pointer: string | undefined };

/** The requests that set a password. The password may depend on the user's email. */
const passwordRequests: Record<string, (createPassword: (email: string) => string) => Promise<PasswordResult>> = {
  async registering(createPassword) {
    const email = createEmail();
    return parseResult(
      await parley.fetch("/api/v1/auth/register", { json: { email, password: createPassword(email) } }),
    );
  },
  async "an administrator creating a user"(createPassword) {
    const email = createEmail();
    const json = { email, password: createPassword(email) };
    return parseResult(await parley.fetch("/api/v1/users", { json, token: parley.admin.account.access_token }));
  },
  async "an administrator setting a password"(createPassword) {
    const { user } = await parley.register(createEmail());
    const json = { password: createPassword(user.email) };
    const token = parley.admin.account.access_token;
    return parseResult(await parley.fetch(`/api/v1/users/${user.id}`, { method: "PATCH", json, token }));
  },
  async "a user changing their password"(createPassword) {
    const { user, access_token: token } = await parley.register(createEmail());
    const json = { current_password: TEST_PASSWORD, new_password: createPassword(user.email) };
    return parseResult(await parley.fetch("/api/v1/me/password", { json, token }));
  },
};

async function parseResult(response: Response): Promise<PasswordResult> {
  const body = (await response.json()) as { errors?: { pointer: string }[] };
  return { status: response.status, pointer: body.errors?.[0]?.pointer };
}

describe.each(Object.keys(passwordRequests))("%s", (name) => {
  const setPassword = (createPassword: (email: string) => string) =>
    passwordRequests[name]?.(createPassword) as Promise<PasswordResult>;

  test("fails with a short or common password, or with the user's own email", async () => {
    const pointer = name === "a user changing their password" ? "#/new_password" : "#/password";
    // Four emoji are eight UTF-16 code units, but only four characters.
    const invalidPasswords = ["short", "🐘🌊🍋🚲", "Password1", "QWERTYUIOP", "x".repeat(129)].map(
      (text) => () => text,
    );
    for (const createPassword of [
      ...invalidPasswords,
      (email: string) => email.toUpperCase(),
      (email: string) => email.split("@")[0] ?? "",
    ])
      expect(await setPassword(createPassword)).toEqual({ status: 422, pointer });
  });

  test("succeeds with other passwords", async () => {
    expect((await setPassword((email) => `${email} and more`)).status).toBeLessThan(300);
  });
});

test("a user with an existing common password can still log in", async () => {
  const { user } = await parley.register(createEmail());
  const hash = await Bun.password.hash("password1", { algorithm: "argon2id", memoryCost: 64, timeCost: 1 });
  await parley.database`update users set password_hash = ${hash} where id = ${user.id}`;
  const json = { email: user.email, password: "password1" };
  const response = await parley.fetch("/api/v1/auth/login", { json });
  expect(response.status).toBe(200);
  const account = (await response.json()) as Parameters<typeof createRestClient>[1];
  expect((await createRestClient(parley, account).get<User>("/me")).status).toBe(200);
  // The password also works where the current password is required.
  const passwordChange = { current_password: "password1", new_password: "something far better" };
  expect((await createRestClient(parley, account).request("POST", "/me/password", passwordChange)).status).toBe(200);
});
