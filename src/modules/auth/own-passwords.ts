import type { Caller } from "../../access/caller.ts";
import { type Database, type Sql, withTransaction } from "../../db/client.ts";
import type { Slots } from "../../limits/slots.ts";
import type { AuditService } from "../audit/service.ts";
import { createRequester, type UserService } from "../users/service.ts";
import type { EndReason } from "./model.ts";
import type { PasswordChecks } from "./password-checks.ts";
import * as queries from "./queries.ts";

/** What logged-in users do with their own password; a few at a time for each user. */
export interface OwnPasswords {
  /**
   * Counts a check of a password for as long as what it is for goes on.
   * @throws Problem `rate_limited`; whatever `work` throws.
   */
  limit<T>(caller: Caller, work: () => Promise<T>): Promise<T>;

  /** @returns the stored hash. @throws Problem `forbidden`, `rate_limited`, `overloaded`. */
  prove(caller: Caller, password: string): Promise<string>;

  /** See `AuthService`. */
  change(caller: Caller, currentPassword: string, newPassword: string): Promise<void>;
}

type Dependencies = {
  database: Database;
  users: UserService;
  audit: AuditService;
  passwordChecks: PasswordChecks;
  checksPerUser: Slots;
  announceEnd(sessionIds: string[], reason: EndReason): void;
};

export function createOwnPasswords(deps: Dependencies): OwnPasswords {
  const { database, users, audit, passwordChecks, checksPerUser, announceEnd } = deps;

  async function limit<T>(caller: Caller, work: () => Promise<T>): Promise<T> {
    const release = checksPerUser.take(caller.user.id);
    try {
      return await work();
    } finally {
      release();
    }
  }

  async function change(caller: Caller, currentPassword: string, newPassword: string): Promise<void> {
    const currentHash = await passwordChecks.prove(caller, currentPassword);
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
      return queries.endUserSessions(sql, caller.user.id, "password_changed", caller.credentialId);
    };
    const ended = await withTransaction(database, store, `user:${caller.user.id}`);
    announceEnd(ended, "password_changed");
  }

  return {
    limit,
    prove: (caller, password) => limit(caller, () => passwordChecks.prove(caller, password)),
    change: (caller, current, chosen) => limit(caller, () => change(caller, current, chosen)),
  };
}
