import type { Caller } from "../../access/caller.ts";
import { type Database, type Sql, withTransaction } from "../../db/client.ts";
import type { AuditService } from "../audit/service.ts";
import type { EndReason } from "./model.ts";
import * as queries from "./queries.ts";

type SessionTerminationDependencies = {
  database: Database;
  audit: AuditService;
  /** Called after the commit. */
  announceEndedSessions(sessionIds: string[], reason: EndReason): void;
};

type Actor = { actorId: string; credentialId: string | null; ipAddress: string | null };

/** Returns the actor for the audit log. */
const mapToActor = ({ user, credentialId, ipAddress }: Caller): Actor => ({
  actorId: user.id,
  credentialId,
  ipAddress,
});

/** Creates the functions that end sessions before they expire, with an entry in the audit log. */
export function createSessionTermination({ database, audit, announceEndedSessions }: SessionTerminationDependencies) {
  async function endOne(sessionId: string, reason: EndReason, userId: string | undefined, actor: Partial<Actor>) {
    const end = async (sql: Sql) => {
      const ended = await queries.endSession(sql, sessionId, reason, userId);
      if (!ended) return false;
      await audit.record(sql, {
        action: "session.ended",
        actorId: actor.actorId ?? ended.user_id,
        credentialId: actor.credentialId ?? sessionId,
        target: { type: "session", id: sessionId },
        ipAddress: actor.ipAddress ?? null,
        details: { reason },
      });
      return true;
    };
    const isEnded = await withTransaction(database, end, `session:${sessionId}`);
    if (isEnded) announceEndedSessions([sessionId], reason);
    return isEnded;
  }

  /** Ends sessions inside a transaction. Pass the ids to `announceEndedSessions` after the commit. */
  async function endUserSessionsIn(
    sql: Sql,
    userId: string,
    reason: EndReason,
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
      endOne(sessionId, "logout", undefined, { ipAddress }),

    /** Ends one of the caller's own sessions. @returns false if it doesn't exist. */
    endOwn: (caller: Caller, sessionId: string): Promise<boolean> =>
      endOne(sessionId, "ended", caller.user.id, mapToActor(caller)),

    /** Ends all of a user's sessions except `exceptId`. Doesn't check the caller's permissions. */
    async endAll(caller: Caller, userId: string, exceptId?: string): Promise<void> {
      const end = (sql: Sql) => endUserSessionsIn(sql, userId, "ended", mapToActor(caller), exceptId);
      const ids = await withTransaction(database, end, `user:${userId}`);
      announceEndedSessions(ids, "ended");
    },
  };
}
