import type { Caller } from "../../access/caller.ts";
import type { Database } from "../../db/client.ts";
import { Problem } from "../../lib/problem.ts";
import type { LoginGuard, LoginLock } from "../../limits/login-guard.ts";
import type { AuditService } from "../audit/service.ts";
import type { User } from "../users/model.ts";
import { createRequester, parseEmail, type UserService } from "../users/service.ts";
import type { Client } from "./model.ts";

/** Checks passwords. All checks share one rate limit for guesses. */
export interface PasswordChecker {
  /**
   * Checks a login's credentials. Rate limits, audit log and responses are the same for known and unknown email addresses.
   * @throws Problem `invalid`, `invalid_credentials`, `forbidden` (disabled), `rate_limited`, `overloaded`.
   */
  checkLogin(
    credentials: { email: string; password: string },
    client: Client,
  ): Promise<{ user: User; passwordHash: string }>;

  /**
   * Verifies the password of a logged-in user.
   * @returns the stored hash. @throws Problem `forbidden`, `rate_limited`, `overloaded`.
   */
  verify(caller: Caller, password: string): Promise<string>;

  /** Records lockouts that have just started in the audit log. @param userId null if there is no account. */
  recordLocks(locks: LoginLock[], userId: string | null, ipAddress: string | null): Promise<void>;
}

type Dependencies = { database: Database; users: UserService; audit: AuditService; guard: LoginGuard };

export function createPasswordChecker({ database, users, audit, guard }: Dependencies): PasswordChecker {
  async function recordLocks(locks: LoginLock[], userId: string | null, ipAddress: string | null): Promise<void> {
    for (const { scope, waitS } of locks)
      await audit.record(database, {
        action: "user.login_limited",
        actorId: null,
        credentialId: null,
        target: userId === null ? null : { type: "user", id: userId },
        ipAddress,
        details: { scope, wait_s: waitS },
      });
  }

  return {
    recordLocks,

    async checkLogin(credentials, { ipAddress, signal }) {
      const account = `email:${parseEmail(credentials.email).key}`;
      const attempt = await guard.startAttempt(account, ipAddress);
      const requester = { ipAddress, account, knownBy: attempt.knownBy, signal };
      const verifiedUser = await users.checkCredentials(credentials, requester, async (userId, reason) => {
        // A disabled user's correct password isn't a wrong guess.
        const locks = reason === "credentials" ? await attempt.fail() : [];
        const target = userId === null ? null : ({ type: "user", id: userId } as const);
        const anonymous = { actorId: null, credentialId: null };
        await audit.record(database, {
          action: "user.login_failed",
          ...anonymous,
          target,
          ipAddress,
          details: { reason },
        });
        await recordLocks(locks, userId, ipAddress);
      });
      await attempt.succeed();
      return verifiedUser;
    },

    async verify(caller, password) {
      const { user, ipAddress } = caller;
      const attempt = await guard.startAttempt(`user:${user.id}`, ipAddress);
      try {
        const hash = await users.checkPassword(user.id, password, createRequester(caller));
        await attempt.succeed();
        return hash;
      } catch (error) {
        if (error instanceof Problem && error.code === "forbidden")
          await recordLocks(await attempt.fail(), user.id, ipAddress);
        throw error;
      }
    },
  };
}
