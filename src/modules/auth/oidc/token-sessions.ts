import { BoundedCache } from "../../../cache/bounded-cache.ts";
import { type Database, type Sql, withTransaction } from "../../../db/client.ts";
import { createId } from "../../../lib/id.ts";
import { Problem } from "../../../lib/problem.ts";
import type { AuditService } from "../../audit/service.ts";
import { IDENTITIES_CACHED_MAX } from "../limits.ts";
import type { SessionQuota } from "../session-quota.ts";
import type { IssuerAccountService } from "./accounts.ts";
import { ISSUER_TOKEN_TTL_MAX_S } from "./limits.ts";
import * as queries from "./queries.ts";
import type { IssuerClaims } from "./tokens.ts";

/**
 * Manages the sessions of issuers' tokens that are used directly as credentials. Each token has one session, from its first use until
 * it expires. The session's id never changes, so it is cached. Callers check whether the session is still live.
 */
export interface TokenSessionFinder {
  /**
   * Finds or opens a token's session.
   * @throws Problem `unauthorized` if the session has ended or the user is disabled. Also throws the errors of `findOrCreate`.
   */
  find(claims: IssuerClaims, ipAddress: string | null): Promise<string>;
}

type TokenSessionsDependencies = {
  database: Database;
  audit: AuditService;
  issuer: string;
  accounts: IssuerAccountService;
  sessionQuota: SessionQuota;
};

export function createTokenSessionFinder(deps: TokenSessionsDependencies): TokenSessionFinder {
  const { database, audit, issuer, accounts, sessionQuota } = deps;
  const sessionIds = new BoundedCache<Promise<string>>({
    maxSize: IDENTITIES_CACHED_MAX,
    // No token is valid for longer than this.
    ttlMs: ISSUER_TOKEN_TTL_MAX_S * 1_000,
  });

  async function findOrOpen(claims: IssuerClaims, ipAddress: string | null): Promise<string> {
    const { subject, tokenKey, expiresAtMs, authenticatedAtMs } = claims;
    const existingId = await queries.findTokenSession(database, tokenKey);
    if (existingId !== undefined) return existingId;
    const userId = await accounts.findOrCreate(claims, ipAddress);
    const id = createId();
    const insert = async (sql: Sql) => {
      const session = { id, userId, issuer, subject, tokenKey, expiresAtMs, authenticatedAtMs, ipAddress };
      if (!(await queries.insertTokenSession(sql, session))) return null;
      const target = { type: "user", id: userId } as const;
      const entry = { action: "user.logged_in", actorId: userId, credentialId: id, target, ipAddress } as const;
      await audit.record(sql, { ...entry, details: { issuer } });
      return sessionQuota.endLeastUsed(sql, { userId, sessionId: id, ipAddress });
    };
    const endedSessionIds = await withTransaction(database, insert, `user:${userId}`);
    if (endedSessionIds) sessionQuota.announce(endedSessionIds);
    // If no session was inserted, a concurrent request was faster, or access is denied.
    const sessionId = endedSessionIds ? id : await queries.findTokenSession(database, tokenKey);
    if (sessionId === undefined)
      throw new Problem("unauthorized", "The token is invalid or has expired, or its session has ended.");
    return sessionId;
  }

  return {
    find(claims, ipAddress) {
      const key = claims.tokenKey.toString("base64");
      const cachedSessionId = sessionIds.get(key);
      if (cachedSessionId) return cachedSessionId;
      const sessionId = findOrOpen(claims, ipAddress);
      sessionIds.set(key, sessionId);
      sessionId.catch(() => sessionIds.deleteValue(key, sessionId));
      return sessionId;
    },
  };
}
