import { randomBytes } from "node:crypto";
import { type Database, type Sql, withTransaction } from "../../db/client.ts";
import { createId } from "../../lib/id.ts";
import type { Log } from "../../lib/log.ts";
import { Problem } from "../../lib/problem.ts";
import type { AuditService } from "../audit/service.ts";
import { USER_AGENT_CHARS_MAX } from "./limits.ts";
import type { Client } from "./model.ts";
import * as queries from "./queries.ts";
import type { RefreshTokenSigner } from "./refresh-tokens.ts";
import type { SessionQuota } from "./session-quota.ts";

export const REFRESH_KEY_BYTES = 32;

/** A session and its current refresh token. */
export type OpenSession = { sessionId: string; userId: string; refreshToken: string };

/** Opens sessions at login, and extends them with refresh tokens (docs/decisions/0003). */
export interface SessionManager {
  /**
   * Opens a session.
   * @param proof the verified credentials.
   * @throws Problem `invalid_credentials` if the user was changed concurrently. With an issuer's token, throws `unauthorized` in that case,
   * and also if a session that was opened with the token has been ended.
   */
  open(userId: string, proof: queries.LoginProof, client: Client): Promise<OpenSession>;

  /**
   * Exchanges a refresh token for the next one. For a few seconds, the previous token still returns the same next token. An older
   * token ends the session.
   * @throws Problem `unauthorized`, `token_reused`.
   */
  refresh(token: string, ipAddress: string | null): Promise<OpenSession>;

  /** Finds the session of a refresh token of any generation. Returns null if this server didn't create the token. */
  findByToken(token: string): Promise<string | null>;
}

type SessionsDependencies = {
  database: Database;
  audit: AuditService;
  refreshTokenSigner: RefreshTokenSigner;
  log: Log;
  sessionQuota: SessionQuota;
  /** Called if a token was reused. Its session has already been ended in the database. */
  onReuse(sessionId: string): void;
};

export function createSessionManager(deps: SessionsDependencies): SessionManager {
  const { database, audit, refreshTokenSigner, log, sessionQuota, onReuse } = deps;

  async function endReusedSession(sessionId: string, userId: string, ipAddress: string | null): Promise<never> {
    const end = async (sql: Sql) => {
      if (!(await queries.endSession(sql, sessionId, "token_reused"))) return false;
      // The actor is unknown, because it may be the user or an attacker.
      const target = { type: "user", id: userId } as const;
      const entry = { action: "session.token_reused", actorId: null, credentialId: sessionId, target } as const;
      await audit.record(sql, { ...entry, ipAddress });
      return true;
    };
    if (await withTransaction(database, end, `session:${sessionId}`)) {
      log.warn({ session_id: sessionId, user_id: userId }, "refresh token reused; session ended");
      onReuse(sessionId);
    }
    throw new Problem("token_reused", "This refresh token was already used, so its session has ended. Log in again.");
  }

  return {
    async open(userId, proof, client) {
      const sessionId = createId();
      const refreshKey = randomBytes(REFRESH_KEY_BYTES);
      const storedClient = { ...client, userAgent: client.userAgent?.slice(0, USER_AGENT_CHARS_MAX) ?? null };
      const session = { id: sessionId, userId, proof, refreshKey, client: storedClient };
      const insert = async (sql: Sql) => {
        if (!(await queries.insertSession(sql, session))) return null;
        const target = { type: "user", id: userId } as const;
        const entry = { action: "user.logged_in", actorId: userId, credentialId: sessionId, target } as const;
        await audit.record(sql, { ...entry, ipAddress: client.ipAddress });
        return sessionQuota.endLeastUsed(sql, { userId, sessionId, ipAddress: client.ipAddress });
      };
      const endedSessionIds = await withTransaction(database, insert, `user:${userId}`);
      if (!endedSessionIds && "tokenKey" in proof)
        throw new Problem("unauthorized", "A session of this token was ended. Get a new token from the issuer.");
      if (!endedSessionIds)
        throw new Problem("invalid_credentials", "The user was changed at the same time. Log in again.");
      sessionQuota.announce(endedSessionIds);
      return { sessionId, userId, refreshToken: refreshTokenSigner.create({ sessionId, generation: 0, refreshKey }) };
    },

    async refresh(token, ipAddress) {
      const createUnauthorizedProblem = () =>
        new Problem("unauthorized", "The refresh token is invalid, or its session has ended.");
      const claim = refreshTokenSigner.parse(token);
      if (!claim) throw createUnauthorizedProblem();
      const { sessionId, generation } = claim;
      const state = await queries.findRefreshState(database, sessionId);
      if (!state || !refreshTokenSigner.matches(claim, state.refresh_key) || !state.is_live)
        throw createUnauthorizedProblem();
      // If the token is newer than the stored generation, the database was restored from a backup. The token is invalid, but wasn't stolen.
      if (generation > state.generation) throw createUnauthorizedProblem();
      if (generation === state.generation) {
        // If several requests with this token are concurrent, one of them rotates the session, and the others also succeed.
        const rotate = (sql: Sql) => queries.rotateSession(sql, sessionId, generation);
        const isRotated = await withTransaction(database, rotate, `session:${sessionId}`);
        if (!isRotated && !(await queries.findRefreshState(database, sessionId))?.is_live)
          throw createUnauthorizedProblem();
      } else if (generation < state.generation - 1 || !state.is_in_grace)
        return endReusedSession(sessionId, state.user_id, ipAddress);
      const successor = { sessionId, generation: generation + 1, refreshKey: state.refresh_key };
      return { sessionId, userId: state.user_id, refreshToken: refreshTokenSigner.create(successor) };
    },

    async findByToken(token) {
      const claim = refreshTokenSigner.parse(token);
      const state = claim && (await queries.findRefreshState(database, claim.sessionId));
      return claim && state && refreshTokenSigner.matches(claim, state.refresh_key) ? claim.sessionId : null;
    },
  };
}
