import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { type Administration, startAdministration, type User } from "../accounts/start-administration.ts";
import { TEST_PASSWORD } from "../support/app.ts";
import { createRest } from "../support/rest.ts";

let parley: Administration;
beforeAll(async () => {
  parley = await startAdministration();
});
afterAll(() => parley.stop());

let count = 0;
const newEmail = () => `chooser-${++count}@example.com`;

type Attempt = { status: number; pointer: string | undefined };

/** Every way to set a password over HTTP; each returns the response. */
const ways: Record<string, (password: (email: string) => string) => Promise<Attempt>> = {
  async register(choose) {
    const email = newEmail();
    return read(await parley.fetch("/api/v1/auth/register", { json: { email, password: choose(email) } }));
  },
  async "an administrator creates a user"(choose) {
    const email = newEmail();
    const json = { email, password: choose(email) };
    return read(await parley.fetch("/api/v1/users", { json, token: parley.admin.account.access_token }));
  },
  async "an administrator sets a password"(choose) {
    const { user } = await parley.register(newEmail());
    const json = { password: choose(user.email) };
    const token = parley.admin.account.access_token;
    return read(await parley.fetch(`/api/v1/users/${user.id}`, { method: "PATCH", json, token }));
  },
  async "a user changes theirs"(choose) {
    const { user, access_token: token } = await parley.register(newEmail());
    const json = { current_password: TEST_PASSWORD, new_password: choose(user.email) };
    return read(await parley.fetch("/api/v1/me/password", { json, token }));
  },
};

async function read(response: Response): Promise<Attempt> {
  const body = (await response.json()) as { errors?: { pointer: string }[] };
  return { status: response.status, pointer: body.errors?.[0]?.pointer };
}

describe.each(Object.keys(ways))("%s", (name) => {
  const choose = (password: (email: string) => string) => ways[name]?.(password) as Promise<Attempt>;

  test("refuses short and common passwords, and the user's own email", async () => {
    const pointer = name === "a user changes theirs" ? "#/new_password" : "#/password";
    // Four emoji are eight UTF-16 units.
    const invalid = ["short", "🐘🌊🍋🚲", "Password1", "QWERTYUIOP", "x".repeat(129)].map((text) => () => text);
    for (const password of [
      ...invalid,
      (email: string) => email.toUpperCase(),
      (email: string) => email.split("@")[0] ?? "",
    ])
      expect(await choose(password)).toEqual({ status: 422, pointer });
  });

  test("accepts others", async () => {
    expect((await choose((email) => `${email} and more`)).status).toBeLessThan(300);
  });
});

test("an existing common password still works for logging in", async () => {
  const { user } = await parley.register(newEmail());
  const hash = await Bun.password.hash("password1", { algorithm: "argon2id", memoryCost: 64, timeCost: 1 });
  await parley.database`update users set password_hash = ${hash} where id = ${user.id}`;
  const json = { email: user.email, password: "password1" };
  const response = await parley.fetch("/api/v1/auth/login", { json });
  expect(response.status).toBe(200);
  const account = (await response.json()) as Parameters<typeof createRest>[1];
  expect((await createRest(parley, account).get<User>("/me")).status).toBe(200);
  // And for confirming the current password where required.
  const change = { current_password: "password1", new_password: "something far better" };
  expect((await createRest(parley, account).request("POST", "/me/password", change)).status).toBe(200);
});
