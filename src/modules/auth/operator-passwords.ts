import { type Database, type Sql, withTransaction } from "../../db/client.ts";
import { Problem } from "../../lib/problem.ts";
import type { AuditService } from "../audit/service.ts";
import type { User } from "../users/model.ts";
import { operatorRequester, type UserService } from "../users/service.ts";
import type { SessionEndReason } from "./model.ts";
import * as queries from "./queries.ts";

type Dependencies = { database: Database; users: UserService; audit: AuditService };

/**
 * Sets a user's password and ends their sessions, from the command line. Running instances notice the ended sessions when they poll.
 * @returns the user, and how many sessions were ended. @throws Problem `not_found`, `invalid`.
 */
export async function setPasswordByOperator(
  { database, users, audit }: Dependencies,
  email: string,
  password: string,
): Promise<{ user: User; endedSessions: number }> {
  const user = await users.findByEmail(email);
  if (!user) throw new Problem("not_found", "No user has this email address.");
  const hash = await users.hashPassword({ password, email: user.email }, operatorRequester);
  const reason = "password_changed" satisfies SessionEndReason;
  const store = async (sql: Sql) => {
    await users.lockUser(sql, user.id, undefined);
    await users.storePasswordHash(sql, user.id, hash);
    const byOperator = { actorId: null, credentialId: null, ipAddress: null };
    await audit.record(sql, { action: "user.password_changed", ...byOperator, target: { type: "user", id: user.id } });
    return queries.endUserSessions(sql, user.id, reason);
  };
  const endedSessionIds = await withTransaction(database, store, `user:${user.id}`);
  return { user, endedSessions: endedSessionIds.length };
}
