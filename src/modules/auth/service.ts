import { createHash } from "node:crypto";
import { type Database, withTransaction } from "../../db/client.ts";
import type { Caller, RequestOrigin } from "../../http/authenticate.ts";
import { createSecret } from "../../lib/id.ts";
import type { Log } from "../../lib/log.ts";
import { Problem } from "../../lib/problem.ts";
import type { User } from "../users/model.ts";
import type { UserService } from "../users/service.ts";
import { createAccessTokens } from "./access-tokens.ts";
import { createIdentities } from "./identities.ts";
import { ACCESS_TOKEN_TTL_S, ENDED_SESSION_KEPT_S, TICKET_TTL_S } from "./limits.ts";
import type { Client, EndReason, Ticket, Tokens } from "./model.ts";
import * as queries from "./queries.ts";
import { createRefreshTokens } from "./refresh-tokens.ts";
import { createSessions, type OpenSession } from "./sessions.ts";

const TICKET_PREFIX = "ptk_";
const ticketForm = /^ptk_[\w-]{43}$/;

export type AuthServiceDependencies = {
  database: Database;
  users: UserService;
  jwtSecret: string;
  registration: "open" | "closed";
  log: Log;
  /** Sessions were ended here, after the commit: whatever is connected with them has to go. */
  onSessionsEnded(sessionIds: string[], reason: EndReason): void;
};

/** Who is logged in where, and how they prove it. */
export function createAuthService({
  database,
  users,
  jwtSecret,
  registration,
  log,
  onSessionsEnded,
}: AuthServiceDependencies) {
  const accessTokens = createAccessTokens(jwtSecret);
  const refreshTokens = createRefreshTokens(jwtSecret);
  const identities = createIdentities((sessionId) => queries.findSessionUser(database, sessionId));
  const onReuse = (sessionId: string) => announceEnd([sessionId], "token_reused");
  const sessions = createSessions({ database, refreshTokens, log, onReuse });

  function announceEnd(sessionIds: string[], reason: EndReason): void {
    if (sessionIds.length === 0) return;
    identities.forget(sessionIds);
    onSessionsEnded(sessionIds, reason);
  }

  async function createTokens(user: User, session: OpenSession): Promise<Tokens> {
    return {
      user,
      access_token: await accessTokens.sign(session),
      token_type: "Bearer",
      expires_in: ACCESS_TOKEN_TTL_S,
      refresh_token: session.refreshToken,
    };
  }

  async function login(credentials: { email: string; password: string }, client: Client): Promise<Tokens> {
    const { user, passwordHash } = await users.checkCredentials(credentials.email, credentials.password);
    return createTokens(user, await sessions.open(user.id, passwordHash, client));
  }

  async function identifySession(
    sessionId: string,
    expiresAtMs: number,
    { ipAddress }: RequestOrigin,
  ): Promise<Caller | null> {
    const user = await identities.find(sessionId);
    return user ? { user, credentialId: sessionId, scopes: null, expiresAtMs, ipAddress } : null;
  }

  const refused = () => new Problem("unauthorized", "The credential is not valid, or no longer.");

  return {
    /** Anyone may, while registration is open. @throws Problem `registration_closed`, `invalid`, `conflict`, `unavailable`. */
    async register(input: { email: string; password: string; display_name?: string }, client: Client): Promise<Tokens> {
      if (registration === "closed") throw new Problem("registration_closed", "Ask an administrator for an account.");
      const { user, passwordHash } = await users.createUser(input);
      return createTokens(user, await sessions.open(user.id, passwordHash, client));
    },

    /** Anyone may. @throws Problem `invalid`, `invalid_credentials`, `forbidden` (disabled), `unavailable`. */
    login,

    /** Whoever has the token may. @throws Problem `unauthorized`, `token_reused`. */
    async refresh(refreshToken: string): Promise<Tokens> {
      const session = await sessions.refresh(refreshToken);
      return createTokens(await users.getUser(session.userId), session);
    },

    /** Ends the session of a refresh token; what is no token of ours, or of a session that has ended, changes nothing. */
    async logout(refreshToken: string): Promise<void> {
      const sessionId = await sessions.findByToken(refreshToken);
      if (sessionId === null || !(await queries.endSession(database, sessionId, "logout"))) return;
      announceEnd([sessionId], "logout");
    },

    /** Who an access token belongs to, on HTTP and on sockets. @throws Problem `unauthorized`. */
    async identify(token: string, origin: RequestOrigin): Promise<Caller> {
      const claims = await accessTokens.verify(token);
      const caller = claims && (await identifySession(claims.sessionId, claims.expiresAtMs, origin));
      if (!caller || caller.user.id !== claims.userId) throw refused();
      return caller;
    },

    /** A ticket stands for the caller's credential, and ends with it. */
    async createTicket(caller: Caller): Promise<Ticket> {
      const ticket = TICKET_PREFIX + createSecret();
      await queries.insertTicket(database, {
        hash: hashTicket(ticket),
        sessionId: caller.credentialId,
        ttlSeconds: TICKET_TTL_S,
        credentialExpiresAtMs: caller.expiresAtMs,
      });
      return { ticket, expires_in: TICKET_TTL_S };
    },

    /** Who a ticket was given to. It is spent by this, even if its session has ended. @throws Problem `unauthorized`. */
    async redeemTicket(ticket: string, origin: RequestOrigin): Promise<Caller> {
      const row = ticketForm.test(ticket) ? await queries.takeTicket(database, hashTicket(ticket)) : undefined;
      const expiresAtMs = row?.credential_expires_at.getTime() ?? 0;
      const caller =
        row && expiresAtMs > Date.now() ? await identifySession(row.session_id, expiresAtMs, origin) : null;
      if (!caller) throw new Problem("unauthorized", "The ticket is not valid, was used before, or is too old.");
      return caller;
    },

    /** The caller's own live sessions, newest first. */
    listSessions(caller: Caller, limit: number, beforeId: string | null): Promise<queries.SessionRow[]> {
      return queries.listSessions(database, caller.user.id, limit, beforeId);
    },

    /** Ends one of the caller's own sessions. @throws Problem `not_found`. */
    async endSession(caller: Caller, sessionId: string): Promise<void> {
      if (!(await queries.endSession(database, sessionId, "ended", caller.user.id)))
        throw new Problem("not_found", "There is no such session.");
      announceEnd([sessionId], "ended");
    },

    /** Changes the caller's password and ends their other sessions. @throws Problem `forbidden`, `conflict`, `unavailable`. */
    async changePassword(caller: Caller, currentPassword: string, newPassword: string): Promise<void> {
      const currentHash = await users.checkPassword(caller.user.id, currentPassword);
      const newHash = await users.hashPassword(newPassword);
      const ended = await withTransaction(database, async (sql) => {
        await users.lockUser(sql, caller.user.id, currentHash);
        await users.storePasswordHash(sql, caller.user.id, newHash);
        return queries.endUserSessions(sql, caller.user.id, "password_changed", caller.credentialId);
      });
      announceEnd(ended, "password_changed");
    },

    /** Deletes the caller's account with everything personal. @throws Problem `forbidden`, `conflict`, `unavailable`. */
    async deleteAccount(caller: Caller, password: string | undefined): Promise<void> {
      const passwordHash = password === undefined ? undefined : await users.checkPassword(caller.user.id, password);
      const ended = await withTransaction(database, async (sql) => {
        await users.lockUser(sql, caller.user.id, passwordHash);
        const ids = await queries.endUserSessions(sql, caller.user.id, "user_deleted");
        await queries.clearClients(sql, caller.user.id);
        await users.removeUser(sql, caller.user.id);
        return ids;
      });
      announceEnd(ended, "user_deleted");
    },

    /**
     * Sessions that any instance ended lately, for those who hold connections. Look back further than the last look:
     * a transaction that commits late is dated at its start.
     */
    findEndedSessions(withinMs: number): Promise<queries.EndedSession[]> {
      return queries.listEndedSessions(database, withinMs / 1000);
    },

    /** Deletes what is of no more use: spent time, ended sessions. One round is bounded; run it every few minutes. */
    async sweepAccounts(): Promise<{ sessions: number; tickets: number }> {
      const tickets = await queries.deleteOldTickets(database);
      return { tickets, sessions: await queries.deleteOldSessions(database, ENDED_SESSION_KEPT_S) };
    },
  };
}

export type AuthService = ReturnType<typeof createAuthService>;

/** A ticket is random enough that a plain hash hides it. */
function hashTicket(ticket: string): Buffer {
  return createHash("sha256").update(ticket).digest();
}
