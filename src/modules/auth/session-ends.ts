import type { Caller } from "../../access/caller.ts";
import { type Database, type Sql, withTransaction } from "../../db/client.ts";
import type { AuditService } from "../audit/service.ts";
import type { EndReason } from "./model.ts";
import * as queries from "./queries.ts";

type SessionEndsDependencies = {
  database: Database;
  audit: AuditService;
  /** Called after the commit. */
  announceEnd(sessionIds: string[], reason: EndReason): void;
};

type By = { actorId: string; credentialId: string | null; ipAddress: string | null };

/** The actor for the audit log. */
const mapToActor = ({ user, credentialId, ipAddress }: Caller): By => ({ actorId: user.id, credentialId, ipAddress });

/** Ends sessions before they expire, each with an audit entry. */
export function createSessionEnds({ database, audit, announceEnd }: SessionEndsDependencies) {
  async function endOne(sessionId: string, reason: EndReason, userId: string | undefined, by: Partial<By>) {
    const end = async (sql: Sql) => {
      const ended = await queries.endSession(sql, sessionId, reason, userId);
      if (!ended) return false;
      await audit.record(sql, {
        action: "session.ended",
        actorId: by.actorId ?? ended.user_id,
        credentialId: by.credentialId ?? sessionId,
        target: { type: "session", id: sessionId },
        ipAddress: by.ipAddress ?? null,
        details: { reason },
      });
      return true;
    };
    const isEnded = await withTransaction(database, end, `session:${sessionId}`);
    if (isEnded) announceEnd([sessionId], reason);
    return isEnded;
  }

  /** Inside a transaction; announce the ids after it. */
  async function endMany(sql: Sql, userId: string, reason: EndReason, by: By, exceptId?: string): Promise<string[]> {
    const ids = await queries.endUserSessions(sql, userId, reason, exceptId);
    const target = { type: "user", id: userId } as const;
    if (ids.length > 0)
      await audit.record(sql, { action: "session.ended", ...by, target, details: { reason, sessions: ids.length } });
    return ids;
  }

  return {
    /** By the holder of a token of the session. */
    logOut: (sessionId: string, ipAddress: string | null): Promise<boolean> =>
      endOne(sessionId, "logout", undefined, { ipAddress }),

    /** One of the caller's own. @returns false if it doesn't exist. */
    endOwn: (caller: Caller, sessionId: string): Promise<boolean> =>
      endOne(sessionId, "ended", caller.user.id, mapToActor(caller)),

    /** All of a user except the named one. The caller of this function checks permission. */
    async endAll(caller: Caller, userId: string, exceptId?: string): Promise<void> {
      const end = (sql: Sql) => endMany(sql, userId, "ended", mapToActor(caller), exceptId);
      const ids = await withTransaction(database, end, `user:${userId}`);
      announceEnd(ids, "ended");
    },
  };
}
