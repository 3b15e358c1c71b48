import { createHash } from "node:crypto";
import type { Caller, RequestOrigin } from "../../access/caller.ts";
import { createLookupCache } from "../../cache/lookup-cache.ts";
import { type Database, getReservedPool, type Sql, withTransaction } from "../../db/client.ts";
import { createSecret } from "../../lib/id.ts";
import type { Log } from "../../lib/log.ts";
import { Problem } from "../../lib/problem.ts";
import type { LoginGuard } from "../../limits/login-guard.ts";
import type { ApiKeyService } from "../api-keys/service.ts";
import type { AuditService } from "../audit/service.ts";
import type { User } from "../users/model.ts";
import type { UserService } from "../users/service.ts";
import { createAccessTokens } from "./access-tokens.ts";
import {
  ACCESS_TOKEN_TTL_S,
  ENDED_SESSION_KEPT_S,
  IDENTITIES_CACHED_MAX,
  IDENTITY_CACHE_MS,
  TICKET_TTL_S,
} from "./limits.ts";
import type { Client, EndReason, Ticket, Tokens } from "./model.ts";
import { createIssuerService, type IssuerOptions } from "./oidc/service.ts";
import { createPasswordChecks } from "./password-checks.ts";
import * as queries from "./queries.ts";
import { createRefreshTokens } from "./refresh-tokens.ts";
import { createSessionEnds } from "./session-ends.ts";
import { createSessions, type OpenSession } from "./sessions.ts";

const TICKET_PREFIX = "ptk_";
const ticketForm = /^ptk_[\w-]{43}$/;

export type AuthServiceDependencies = {
  database: Database;
  users: UserService;
  audit: AuditService;
  apiKeys: ApiKeyService;
  /** Slows down whoever guesses passwords. */
  guard: LoginGuard;
  jwtSecret: string;
  registration: "open" | "closed";
  /** Whose tokens are accepted besides our own; null: nobody's. */
  issuer: IssuerOptions | null;
  log: Log;
  /** Sessions were ended here, after the commit: whatever is connected with them has to go. */
  onSessionsEnded(sessionIds: string[], reason: EndReason): void;
};

/** Who is logged in where, and how they prove it. */
export function createAuthService({
  database,
  users,
  audit,
  apiKeys,
  guard,
  jwtSecret,
  registration,
  issuer,
  log,
  onSessionsEnded,
}: AuthServiceDependencies) {
  const accessTokens = createAccessTokens(jwtSecret);
  const refreshTokens = createRefreshTokens(jwtSecret);
  const identities = createLookupCache((sessionId) => queries.findSessionUser(getReservedPool(database), sessionId), {
    keptMs: IDENTITY_CACHE_MS,
    entriesMax: IDENTITIES_CACHED_MAX,
  });
  const onReuse = (sessionId: string) => announceEnd([sessionId], "token_reused");
  const sessions = createSessions({ database, audit, refreshTokens, log, onReuse });
  const ends = createSessionEnds({ database, audit, announceEnd });
  const passwordChecks = createPasswordChecks({ database, users, audit, guard });
  const issuers = createIssuerService({ database, users, audit, passwordChecks, log }, issuer);

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
    const { user, passwordHash } = await passwordChecks.logIn(credentials.email, credentials.password, client);
    return createTokens(user, await sessions.open(user.id, { passwordHash }, client));
  }

  async function identifySession(
    sessionId: string,
    expiresAtMs: number,
    { ipAddress }: RequestOrigin,
  ): Promise<Caller | null> {
    const user = await identities.find(sessionId);
    return user ? { user, credentialId: sessionId, scopes: null, expiresAtMs, ipAddress } : null;
  }

  async function identifyIssuerToken(token: string, origin: RequestOrigin): Promise<Caller> {
    const { sessionId, expiresAtMs } = await issuers.findSession(token, origin.ipAddress);
    const caller = await identifySession(sessionId, expiresAtMs, origin);
    if (!caller) throw refused();
    if (origin.onBehalfOf !== null) throw refusedToAct();
    return caller;
  }

  async function identifyTicket(row: queries.TicketRow, origin: RequestOrigin): Promise<Caller | null> {
    const expiresAtMs = row.credential_expires_at?.getTime() ?? Number.POSITIVE_INFINITY;
    if (expiresAtMs <= Date.now()) return null;
    if (row.session_id !== null) return identifySession(row.session_id, expiresAtMs, origin);
    if (row.api_key_id === null || row.user_id === null) return null;
    return apiKeys.findHolder({ keyId: row.api_key_id, userId: row.user_id }, origin.ipAddress);
  }

  const refused = () => new Problem("unauthorized", "The credential is not valid, or no longer.");
  const refusedToAct = () => new Problem("forbidden", "Only a service key may act for another user.");

  return {
    /** Anyone may, while registration is open. @throws Problem `registration_closed`, `invalid`, `conflict`, `unavailable`. */
    async register(input: { email: string; password: string; display_name?: string }, client: Client): Promise<Tokens> {
      if (registration === "closed") throw new Problem("registration_closed", "Ask an administrator for an account.");
      const { user, passwordHash } = await users.createUser(input, (sql, { id }) =>
        audit.record(sql, {
          action: "user.registered",
          actorId: id,
          credentialId: null,
          target: { type: "user", id },
          ipAddress: client.ipAddress,
        }),
      );
      return createTokens(user, await sessions.open(user.id, { passwordHash }, client));
    },

    /** Anyone may. @throws Problem `invalid`, `invalid_credentials`, `forbidden` (disabled), `rate_limited`, `unavailable`. */
    login,

    /** For the caller's own account. @returns the stored hash. @throws Problem `forbidden`, `rate_limited`, `unavailable`. */
    provePassword: passwordChecks.prove,

    /**
     * Whoever has a token of the issuer may: opens a session of ours.
     * @throws Problem `not_found` (no issuer), `unauthorized`, `forbidden` (disabled, or no usable address),
     * `registration_closed`, `conflict` (the address is taken), `unavailable`.
     */
    async loginByIssuer(token: string, client: Client): Promise<Tokens> {
      const { userId, claims } = await issuers.findUser(token, client.ipAddress);
      const user = await users.getUser(userId);
      if (user.disabled) {
        await audit.record(database, {
          action: "user.login_failed",
          actorId: null,
          credentialId: null,
          target: { type: "user", id: userId },
          ipAddress: client.ipAddress,
          details: { reason: "disabled", issuer: claims.issuer },
        });
        throw new Problem("forbidden", "This user is disabled. Ask an administrator.");
      }
      return createTokens(user, await sessions.open(user.id, claims, client));
    },

    listIdentities: issuers.listIdentities,
    linkIdentity: issuers.link,

    /** Takes one of the caller's own identities away. @throws Problem `not_found`, `conflict` (the only way in). */
    async unlinkIdentity(caller: Caller, identityId: string): Promise<void> {
      announceEnd(await issuers.unlink(caller, identityId), "ended");
    },

    /** Whoever has the token may. @throws Problem `unauthorized`, `token_reused`. */
    async refresh(refreshToken: string, ipAddress: string | null): Promise<Tokens> {
      const session = await sessions.refresh(refreshToken, ipAddress);
      return createTokens(await users.getUser(session.userId), session);
    },

    /** Ends the session of a refresh token; what is no token of ours, or of a session that has ended, changes nothing. */
    async logout(refreshToken: string, ipAddress: string | null): Promise<void> {
      const sessionId = await sessions.findByToken(refreshToken);
      if (sessionId !== null) await ends.logOut(sessionId, ipAddress);
    },

    /**
     * Who an access token or an API key belongs to, on HTTP and on sockets.
     * @throws Problem `unauthorized`, `forbidden` (may not act for the user whom the request names).
     */
    async identify(token: string, origin: RequestOrigin): Promise<Caller> {
      if (apiKeys.claimsKey(token)) {
        const holder = await apiKeys.findCaller(token, origin);
        if (!holder) throw refused();
        return holder;
      }
      if (issuers.isAddressed(token)) return identifyIssuerToken(token, origin);
      const claims = await accessTokens.verify(token);
      const caller = claims && (await identifySession(claims.sessionId, claims.expiresAtMs, origin));
      if (!caller || caller.user.id !== claims.userId) throw refused();
      if (origin.onBehalfOf !== null) throw refusedToAct();
      return caller;
    },

    /** A ticket stands for the caller's credential and whom it acts for, and ends with it. */
    async createTicket(caller: Caller): Promise<Ticket> {
      const ticket = TICKET_PREFIX + createSecret();
      const row = {
        hash: hashTicket(ticket),
        credentialId: caller.credentialId,
        userId: caller.user.id,
        isKey: caller.scopes !== null,
        ttlSeconds: TICKET_TTL_S,
        credentialExpiresAtMs: caller.expiresAtMs,
      };
      await withTransaction(database, (sql) => queries.insertTicket(sql, row), `user:${caller.user.id}`);
      return { ticket, expires_in: TICKET_TTL_S };
    },

    /**
     * Who a ticket was given to. It is spent by this, even if its session or key has ended.
     * @throws Problem `unauthorized`, `forbidden` (a ticket already says for whom it is).
     */
    async redeemTicket(ticket: string, origin: RequestOrigin): Promise<Caller> {
      const take = (sql: Sql) => queries.takeTicket(sql, hashTicket(ticket));
      const row = ticketForm.test(ticket) ? await withTransaction(database, take) : undefined;
      const caller = row ? await identifyTicket(row, origin) : null;
      if (!caller) throw new Problem("unauthorized", "The ticket is not valid, was used before, or is too old.");
      if (origin.onBehalfOf !== null) throw refusedToAct();
      return caller;
    },

    /** The caller's own live sessions, newest first. */
    listSessions(caller: Caller, limit: number, beforeId: string | null): Promise<queries.SessionRow[]> {
      return queries.listSessions(database, caller.user.id, limit, beforeId);
    },

    /** Ends one of the caller's own sessions. @throws Problem `not_found`. */
    async endSession(caller: Caller, sessionId: string): Promise<void> {
      if (!(await ends.endOwn(caller, sessionId))) throw new Problem("not_found", "There is no such session.");
    },

    /** Ends all sessions of a user, but for the one named. For the user, and for administrators. */
    endSessions: ends.endAll,

    /**
     * Changes the caller's password and ends their other sessions.
     * @throws Problem `forbidden`, `conflict`, `rate_limited`, `unavailable`.
     */
    async changePassword(caller: Caller, currentPassword: string, newPassword: string): Promise<void> {
      const currentHash = await passwordChecks.prove(caller, currentPassword);
      const newHash = await users.hashPassword(newPassword);
      const change = async (sql: Sql) => {
        await users.lockUser(sql, caller.user.id, currentHash);
        await users.storePasswordHash(sql, caller.user.id, newHash);
        await audit.record(sql, {
          action: "user.password_changed",
          actorId: caller.user.id,
          credentialId: caller.credentialId,
          target: { type: "user", id: caller.user.id },
          ipAddress: caller.ipAddress,
        });
        return queries.endUserSessions(sql, caller.user.id, "password_changed", caller.credentialId);
      };
      const ended = await withTransaction(database, change, `user:${caller.user.id}`);
      announceEnd(ended, "password_changed");
    },

    /**
     * Inside the transaction that disables or deletes a user: ends all their sessions. Pass the ids on to `announceEnd`
     * after the commit.
     */
    async endUser(sql: Sql, userId: string, reason: "user_disabled" | "user_deleted"): Promise<string[]> {
      const ids = await queries.endUserSessions(sql, userId, reason);
      if (reason === "user_deleted") await queries.clearClients(sql, userId);
      return ids;
    },

    announceEnd,

    /** Another instance has ended these sessions: it counts here at once. */
    forgetSessions: (sessionIds: string[]): void => identities.forget(sessionIds),

    /** After a change of what a user is or may: on this instance it counts at once. */
    forgetIdentities(): void {
      identities.forgetAll();
      apiKeys.forgetUsers();
    },

    /**
     * Sessions that any instance ended lately, for those who hold connections. Look back further than the last look:
     * a transaction that commits late is dated at its start.
     */
    findEndedSessions(withinMs: number): Promise<queries.EndedSession[]> {
      return queries.listEndedSessions(getReservedPool(database), withinMs / 1000);
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
