import type { Caller } from "../../access/caller.ts";
import { requireScope } from "../../access/scopes.ts";
import { type Database, type Sql, withTransaction } from "../../db/client.ts";
import { Problem } from "../../lib/problem.ts";
import type { Slots } from "../../limits/slots.ts";
import type { ApiKeyService } from "../api-keys/service.ts";
import type { AuditService } from "../audit/service.ts";
import { createRequester, type UserService } from "../users/service.ts";
import { RECENT_LOGIN_MAX_AGE_S } from "./limits.ts";
import type { PasswordChange, PasswordChanged, SessionEndReason } from "./model.ts";
import type { PasswordChecker } from "./password-checks.ts";
import * as queries from "./queries.ts";

/** Checks and changes users' own passwords, with a concurrency limit per user. */
export interface OwnPasswordService {
  /**
   * Runs `work`, which counts toward the user's limit of concurrent password checks.
   * @throws Problem `rate_limited`, and the errors of `work`.
   */
  runLimited<T>(caller: Caller, work: () => Promise<T>): Promise<T>;

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
  passwordChecker: PasswordChecker;
  checksPerUser: Slots;
  announceEndedSessions(sessionIds: string[], reason: SessionEndReason): void;
};

export function createOwnPasswordService(deps: Dependencies): OwnPasswordService {
  const { database, users, audit, apiKeys, passwordChecker, checksPerUser, announceEndedSessions } = deps;

  async function runLimited<T>(caller: Caller, work: () => Promise<T>): Promise<T> {
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
    const currentHash = await passwordChecker.verify(caller, current_password);
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
      const deletedKeys = revoke_api_keys ? await apiKeys.removeAll(sql, caller) : [];
      const endedSessionIds = await queries.endUserSessions(
        sql,
        caller.user.id,
        "password_changed",
        caller.credentialId,
      );
      return { deletedKeys, endedSessionIds, activeKeyCount: await apiKeys.countActive(sql, caller.user.id) };
    };
    const result = await withTransaction(database, store, `user:${caller.user.id}`);
    announceEndedSessions(result.endedSessionIds, "password_changed");
    apiKeys.announceDeletedKeys(result.deletedKeys);
    return { api_keys_active: result.activeKeyCount };
  }

  async function reauthenticate(caller: Caller, password: string | undefined): Promise<string | undefined> {
    requireScope(caller.scopes, "session");
    if (password !== undefined) return runLimited(caller, () => passwordChecker.verify(caller, password));
    if (await queries.isRecentLogin(database, caller.credentialId, RECENT_LOGIN_MAX_AGE_S)) return undefined;
    throw new Problem(
      "reauthentication_required",
      `Send your current password as current_password, or log in again (the login must be less than ${RECENT_LOGIN_MAX_AGE_S / 60} minutes old).`,
    );
  }

  return {
    runLimited,
    reauthenticate,
    change: (caller, input) => runLimited(caller, () => change(caller, input)),
  };
}
