import type { Config } from "../../config.ts";
import type { Sql } from "../../db/client.ts";
import type { AuditService } from "../audit/service.ts";
import type { SessionEndReason } from "./model.ts";
import * as queries from "./queries.ts";

type Login = { userId: string; sessionId: string; ipAddress: string | null };

/** Limits the number of a user's sessions. A login above the limit succeeds, and ends the least recently used sessions. */
export interface SessionQuota {
  /** Ends sessions above the limit. Call it in the transaction that opened a session. @returns the ended sessions' ids, for `announce`. */
  endLeastUsed(sql: Sql, login: Login): Promise<string[]>;

  /** Closes the connections of ended sessions. Call it after the commit. */
  announce(sessionIds: string[]): void;
}

type Dependencies = {
  config: Pick<Config, "QUOTA_SESSIONS">;
  audit: AuditService;
  announceEndedSessions(sessionIds: string[], reason: SessionEndReason): void;
};

export function createSessionQuota({ config, audit, announceEndedSessions }: Dependencies): SessionQuota {
  const reason = "quota_exceeded" satisfies SessionEndReason;

  return {
    async endLeastUsed(sql, { userId, sessionId, ipAddress }) {
      if (config.QUOTA_SESSIONS === 0) return [];
      const ids = await queries.endLeastUsedSessions(sql, userId, config.QUOTA_SESSIONS);
      const target = { type: "user", id: userId } as const;
      const entry = { action: "session.ended", actorId: userId, credentialId: sessionId, target, ipAddress } as const;
      if (ids.length > 0) await audit.record(sql, { ...entry, details: { reason, sessions: ids.length } });
      return ids;
    },

    announce: (sessionIds) => announceEndedSessions(sessionIds, reason),
  };
}
