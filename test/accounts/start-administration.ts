import { createId } from "../../src/lib/id.ts";
import { type Account, startApp, TEST_PASSWORD, type TestApp } from "../support/app.ts";
import { createRestClient } from "../support/rest.ts";

export type User = {
  id: string;
  email: string;
  display_name: string;
  role: "user" | "admin";
  disabled: boolean;
  created_at: string;
};

export type AuditEvent = {
  id: string;
  action: string;
  actor_id: string | null;
  credential_id: string | null;
  target: { type: string; id: string } | null;
  ip_address: string | null;
  details: Record<string, unknown>;
  at: string;
};

export type Page<T> = { data: T[]; next_cursor: string | null };

const ADMIN_EMAIL = "root@example.com";

/** Logs a user in. @throws if the login fails. */
export async function logIn(parley: Pick<TestApp, "fetch">, email: string): Promise<Account> {
  const response = await parley.fetch("/api/v1/auth/login", { json: { email, password: TEST_PASSWORD } });
  if (response.status !== 200) throw new Error(`login: ${response.status} ${await response.text()}`);
  return (await response.json()) as Account;
}

/** Starts an instance, and logs an administrator in. */
export async function startAdministration(options: Parameters<typeof startApp>[0] = {}) {
  const config = { ADMIN_EMAIL, ADMIN_PASSWORD: TEST_PASSWORD, ...options.config };
  const parley = await startApp({ ...options, config });
  const admin = createRestClient(parley, await logIn(parley, ADMIN_EMAIL));
  return {
    ...parley,
    admin,

    /** Creates another administrator. */
    async createAdministrator() {
      const account = await parley.register();
      const { status } = await admin.request("PATCH", `/users/${account.user.id}`, { role: "admin" });
      if (status !== 200) throw new Error(`role: ${status}`);
      return createRestClient(parley, account);
    },

    /** Creates a user with a unique email address that starts with `localPart`. */
    async createNamedUser(display_name: string, localPart: string): Promise<Account> {
      return parley.register(`${localPart}.${createId()}@example.com`, display_name);
    },
  };
}

export type Administration = Awaited<ReturnType<typeof startAdministration>>;
