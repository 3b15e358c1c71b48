import type { Caller } from "../../access/caller.ts";
import { type Database, type Sql, withTransaction } from "../../db/client.ts";
import type { AuditService } from "../audit/service.ts";
import type { SessionEndReason } from "./model.ts";
import * as queries from "./queries.ts";

type SessionTerminationDependencies = {
  database: Database;
  audit: AuditService;
  /** Called after the commit. */
  announceEndedSessions(sessionIds: string[], reason: SessionEndReason): void;
};

type Actor = { actorId: string; credentialId: string | null; ipAddress: string | null };

/** Returns the actor for the audit log. */
const mapToActor = ({ user, credentialId, ipAddress }: Caller): Actor => ({
  actorId: user.id,
  credentialId,
  ipAddress,
});

/** Creates the service that ends sessions before they expire, and records this in the audit log. */
export function createSessionTerminator({ database, audit, announceEndedSessions }: SessionTerminationDependencies) {
  async function endOneSession(
    sessionId: string,
    reason: SessionEndReason,
    userId: string | undefined,
    actor: Partial<Actor>,
  ) {
    const endAndRecord = async (sql: Sql) => {
      const endedSession = await queries.endSession(sql, sessionId, reason, userId);
      if (!endedSession) return false;
      await audit.record(sql, {
        action: "session.ended",
        actorId: actor.actorId ?? endedSession.user_id,
        credentialId: actor.credentialId ?? sessionId,
        target: { type: "session", id: sessionId },
        ipAddress: actor.ipAddress ?? null,
        details: { reason },
      });
      return true;
    };
    const isEnded = await withTransaction(database, endAndRecord, `session:${sessionId}`);
    if (isEnded) announceEndedSessions([sessionId], reason);
    return isEnded;
  }

  /** Ends sessions inside a transaction. Pass the ids to `announceEndedSessions` after the commit. */
  async function endUserSessionsInTransaction(
    sql: Sql,
    userId: string,
    reason: SessionEndReason,
    actor: Actor,
    exceptId?: string,
  ): Promise<string[]> {
    const ids = await queries.endUserSessions(sql, userId, reason, exceptId);
    const target = { type: "user", id: userId } as const;
    if (ids.length > 0)
      await audit.record(sql, { action: "session.ended", ...actor, target, details: { reason, sessions: ids.length } });
    return ids;
  }

  return {
    /** Ends a session because its user logs out. */
    logOut: (sessionId: string, ipAddress: string | null): Promise<boolean> =>
      endOneSession(sessionId, "logout", undefined, { ipAddress }),

    /** Ends one of the caller's own sessions. @returns false if the caller has no live session with this id. */
    endOwnSession: (caller: Caller, sessionId: string): Promise<boolean> =>
      endOneSession(sessionId, "ended", caller.user.id, mapToActor(caller)),

    /** Ends all of a user's sessions except `exceptId`. Doesn't check the caller's permissions. */
    async endAllSessions(caller: Caller, userId: string, exceptId?: string): Promise<void> {
      const end = (sql: Sql) => endUserSessionsInTransaction(sql, userId, "ended", mapToActor(caller), exceptId);
      const ids = await withTransaction(database, end, `user:${userId}`);
      announceEndedSessions(ids, "ended");
    },
  };
}
