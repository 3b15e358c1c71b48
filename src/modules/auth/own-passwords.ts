import type { Caller } from "../../access/caller.ts";
import { requireScope } from "../../access/scopes.ts";
import { type Database, type Sql, withTransaction } from "../../db/client.ts";
import { Problem } from "../../lib/problem.ts";
import type { Slots } from "../../limits/slots.ts";
import type { ApiKeyService } from "../api-keys/service.ts";
import type { AuditService } from "../audit/service.ts";
import { createRequester, type UserService } from "../users/service.ts";
import { RECENT_LOGIN_MAX_AGE_S } from "./limits.ts";
import type { EndReason, PasswordChange, PasswordChanged } from "./model.ts";
import type { PasswordChecks } from "./password-checks.ts";
import * as queries from "./queries.ts";

/** Checks and changes users' own passwords, with a concurrency limit per user. */
export interface OwnPasswords {
  /**
   * Runs `work`, which counts against the user's limit of concurrent password checks.
   * @throws Problem `rate_limited`, and the errors of `work`.
   */
  limit<T>(caller: Caller, work: () => Promise<T>): Promise<T>;

  /** See `AuthService`. */
  reauthenticate(caller: Caller, password: string | undefined): Promise<string | undefined>;

  /** See `AuthService`. */
  change(caller: Caller, input: PasswordChange): Promise<PasswordChanged>;
}

type Dependencies = {
  database: Database;
  users: UserService;
  audit: AuditService;
  apiKeys: Pick<ApiKeyService, "removeAll" | "announceDeletedKeys" | "countActive">;
  passwordChecks: PasswordChecks;
  checksPerUser: Slots;
  announceEndedSessions(sessionIds: string[], reason: EndReason): void;
};

export function createOwnPasswords(deps: Dependencies): OwnPasswords {
  const { database, users, audit, apiKeys, passwordChecks, checksPerUser, announceEndedSessions } = deps;

  async function limit<T>(caller: Caller, work: () => Promise<T>): Promise<T> {
    const release = checksPerUser.acquire(caller.user.id);
    try {
      return await work();
    } finally {
      release();
    }
  }

  async function change(
    caller: Caller,
    { current_password, new_password, revoke_api_keys = false }: PasswordChange,
  ): Promise<PasswordChanged> {
    const currentHash = await passwordChecks.verify(caller, current_password);
    const { email } = await users.getUser(caller.user.id);
    const newPassword = { password: new_password, email, field: "new_password" } as const;
    const newHash = await users.hashPassword(newPassword, createRequester(caller));
    const store = async (sql: Sql) => {
      await users.lockUser(sql, caller.user.id, currentHash);
      await users.storePasswordHash(sql, caller.user.id, newHash);
      await audit.record(sql, {
        action: "user.password_changed",
        actorId: caller.user.id,
        credentialId: caller.credentialId,
        target: { type: "user", id: caller.user.id },
        ipAddress: caller.ipAddress,
      });
      const keys = revoke_api_keys ? await apiKeys.removeAll(sql, caller) : [];
      const sessions = await queries.endUserSessions(sql, caller.user.id, "password_changed", caller.credentialId);
      return { keys, sessions, active: await apiKeys.countActive(sql, caller.user.id) };
    };
    const { keys, sessions, active } = await withTransaction(database, store, `user:${caller.user.id}`);
    announceEndedSessions(sessions, "password_changed");
    apiKeys.announceDeletedKeys(keys);
    return { api_keys_active: active };
  }

  async function reauthenticate(caller: Caller, password: string | undefined): Promise<string | undefined> {
    requireScope(caller.scopes, "session");
    if (password !== undefined) return limit(caller, () => passwordChecks.verify(caller, password));
    if (await queries.isRecentLogin(database, caller.credentialId, RECENT_LOGIN_MAX_AGE_S)) return undefined;
    throw new Problem(
      "reauthentication_required",
      `Send your current password as current_password, or log in again (the login must be less than ${RECENT_LOGIN_MAX_AGE_S / 60} minutes old).`,
    );
  }

  return {
    limit,
    reauthenticate,
    change: (caller, input) => limit(caller, () => change(caller, input)),
  };
}
