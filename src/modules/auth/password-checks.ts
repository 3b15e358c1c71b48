import type { Caller } from "../../access/caller.ts";
import type { Database } from "../../db/client.ts";
import { Problem } from "../../lib/problem.ts";
import type { LoginGuard, LoginLock } from "../../limits/login-guard.ts";
import type { AuditService } from "../audit/service.ts";
import type { User } from "../users/model.ts";
import { parseEmail, type UserService } from "../users/service.ts";
import type { Client } from "./model.ts";

type Dependencies = { database: Database; users: UserService; audit: AuditService; guard: LoginGuard };

/** Every place where a password is shown: guesses are slowed down alike, wherever they are made. */
export function createPasswordChecks({ database, users, audit, guard }: Dependencies) {
  /** A lock is written down once, when it is set, and not again for each who meets it. */
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
    /**
     * Who logs in. Whether the address is known makes no difference to what is counted, written down or answered.
     * @throws Problem `invalid`, `invalid_credentials`, `forbidden` (disabled), `rate_limited`, `unavailable`.
     */
    async logIn(email: string, password: string, { ipAddress }: Client): Promise<{ user: User; passwordHash: string }> {
      const attempt = await guard.begin(`email:${parseEmail(email).key}`, ipAddress);
      const found = await users.checkCredentials(email, password, async (userId, reason) => {
        // Who is disabled and knows the password has not guessed it.
        const locks = reason === "credentials" ? await attempt.fail() : [];
        const target = userId === null ? null : ({ type: "user", id: userId } as const);
        const nobody = { actorId: null, credentialId: null };
        await audit.record(database, {
          action: "user.login_failed",
          ...nobody,
          target,
          ipAddress,
          details: { reason },
        });
        await recordLocks(locks, userId, ipAddress);
      });
      await attempt.succeed();
      return found;
    },

    /**
     * Makes sure that a logged-in user knows their password.
     * @returns the stored hash. @throws Problem `forbidden`, `rate_limited`, `unavailable`.
     */
    async prove({ user, ipAddress }: Caller, password: string): Promise<string> {
      const attempt = await guard.begin(`user:${user.id}`, ipAddress);
      try {
        const hash = await users.checkPassword(user.id, password);
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

export type PasswordChecks = ReturnType<typeof createPasswordChecks>;
