import type { CreatedApiKey } from "../../src/modules/api-keys/model.ts";
import type { Account, TestApp } from "../support/app.ts";

type Parley = Pick<TestApp, "fetch" | "register" | "database">;

/** Creates an API key, by default with the scopes `messages:read` and `messages:write`. */
export async function createKey(
  parley: Pick<TestApp, "fetch">,
  account: Account,
  input: Record<string, unknown> = {},
): Promise<CreatedApiKey> {
  const response = await parley.fetch("/api/v1/api-keys", {
    token: account.access_token,
    json: { name: "a test", scopes: ["messages:read", "messages:write"], ...input },
  });
  if (response.status !== 201) throw new Error(`key: ${response.status} ${await response.text()}`);
  return (await response.json()) as CreatedApiKey;
}

/** Registers a user and makes them an administrator in the database, before any instance has cached the role. */
export async function registerAdmin(parley: Parley): Promise<Account> {
  const account = await parley.register();
  await parley.database`update users set role = 'admin' where id = ${account.user.id}`;
  return account;
}
