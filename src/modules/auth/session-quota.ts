import type { Config } from "../../config.ts";
import type { Sql } from "../../db/client.ts";
import type { AuditService } from "../audit/service.ts";
import type { EndReason } from "./model.ts";
import * as queries from "./queries.ts";

type Login = { userId: string; sessionId: string; ipAddress: string | null };

/**
 * Limits a user's open sessions. A login is never refused because of old sessions: it ends the least recently used ones.
 */
export interface SessionQuota {
  /** Call inside the transaction that opened a session. @returns the ids of the ended sessions, for `announce`. */
  endLeastUsed(sql: Sql, login: Login): Promise<string[]>;

  /** Call after the commit: closes the connections of these sessions. */
  announce(sessionIds: string[]): void;
}

type Dependencies = {
  config: Pick<Config, "QUOTA_SESSIONS">;
  audit: AuditService;
  announceEnd(sessionIds: string[], reason: EndReason): void;
};

export function createSessionQuota({ config, audit, announceEnd }: Dependencies): SessionQuota {
  const reason = "quota_exceeded" satisfies EndReason;

  return {
    async endLeastUsed(sql, { userId, sessionId, ipAddress }) {
      if (config.QUOTA_SESSIONS === 0) return [];
      const ids = await queries.endLeastUsedSessions(sql, userId, config.QUOTA_SESSIONS);
      const target = { type: "user", id: userId } as const;
      const entry = { action: "session.ended", actorId: userId, credentialId: sessionId, target, ipAddress } as const;
      if (ids.length > 0) await audit.record(sql, { ...entry, details: { reason, sessions: ids.length } });
      return ids;
    },

    announce: (sessionIds) => announceEnd(sessionIds, reason),
  };
}
