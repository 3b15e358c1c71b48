import type { Caller } from "../../access/caller.ts";
import type { Config } from "../../config.ts";
import { type Database, getReservedPool, type Sql } from "../../db/client.ts";
import type { Log } from "../../lib/log.ts";
import type { Fetch } from "../../lib/outgoing/create-fetch.ts";
import { createNotFoundProblem, Problem } from "../../lib/problem.ts";
import type { LoginGuard } from "../../limits/login-guard.ts";
import type { Slots } from "../../limits/slots.ts";
import type { ApiKeyService } from "../api-keys/service.ts";
import type { AuditService } from "../audit/service.ts";
import type { UserService } from "../users/service.ts";
import { createAccessTokenSigner } from "./access-tokens.ts";
import { type Authenticator, createAuthenticator } from "./callers.ts";
import { ENDED_SESSION_RETENTION_S } from "./limits.ts";
import { createLoginService, type LoginService } from "./logins.ts";
import type { PasswordChange, PasswordChanged, SessionEndReason } from "./model.ts";
import type { KeyTimes } from "./oidc/limits.ts";
import type { Identity } from "./oidc/model.ts";
import { createIssuerService, type IssuerConfig } from "./oidc/service.ts";
import { createOwnPasswordService } from "./own-passwords.ts";
import { createPasswordChecker } from "./password-checks.ts";
import * as queries from "./queries.ts";
import { createRefreshTokenSigner } from "./refresh-tokens.ts";
import { createSessionQuota } from "./session-quota.ts";
import { createSessionTerminator } from "./session-termination.ts";
import { createSessionManager } from "./sessions.ts";

export type { SessionRow } from "./queries.ts";

/** Authenticates callers and manages sessions. */
export interface AuthService extends LoginService, Authenticator {
  /**
   * Requires the caller's password, or a login less than 5 minutes old. API keys are rejected. Call it before the caller's own account
   * is changed or deleted.
   * @returns the stored hash if a password was checked.
   * @throws Problem `reauthentication_required`, `forbidden`, `rate_limited`, `overloaded`.
   */
  reauthenticate(caller: Caller, password: string | undefined): Promise<string | undefined>;

  /**
   * Like `reauthenticate`, but for a caller who wants to change their email address.
   * @throws Problem `forbidden` (`REGISTRATION_PRIVACY` forbids it), and the errors of `reauthenticate`.
   */
  reauthenticateForNewEmail(caller: Caller, password: string | undefined): Promise<string | undefined>;

  /**
   * Changes the caller's password, ends their other sessions, and deletes their API keys if requested.
   * @returns how many API keys keep working.
   * @throws Problem `invalid` (length, or too easy to guess), `forbidden`, `conflict`, `rate_limited`, `overloaded`.
   */
  changePassword(caller: Caller, input: PasswordChange): Promise<PasswordChanged>;

  /** Lists the caller's own identities. */
  listIdentities(caller: Caller): Promise<Identity[]>;

  /**
   * Links the identity in an issuer's token to the caller's account.
   * @throws Problem `not_found` (no issuer), `invalid` (the token), `forbidden`, `conflict`, `rate_limited`,
   * `unavailable`.
   */
  linkIdentity(caller: Caller, token: string, password: string): Promise<Identity>;

  /** Unlinks one of the caller's own identities. @throws Problem `not_found`, `conflict` (the only way to log in). */
  unlinkIdentity(caller: Caller, identityId: string): Promise<void>;

  /** Lists the caller's own live sessions, newest first. */
  listSessions(caller: Caller, limit: number, beforeId: string | null): Promise<queries.SessionRow[]>;

  /** Ends one of the caller's own sessions. @throws Problem `not_found`. */
  endSession(caller: Caller, sessionId: string): Promise<void>;

  /** Ends all of a user's sessions except `exceptId`. Doesn't check whether the caller is that user or an administrator. */
  endSessions(caller: Caller, userId: string, exceptId?: string): Promise<void>;

  /** Ends a refresh token's session. Does nothing if this server didn't create the token or the session has ended. */
  logout(refreshToken: string, ipAddress: string | null): Promise<void>;

  /**
   * Ends all of a user's sessions. Call it inside the transaction that disables or deletes the user, or sets their password. Pass the
   * returned ids to `announceEndedSessions` after the commit.
   */
  endSessionsInTransaction(
    sql: Sql,
    userId: string,
    reason: "user_disabled" | "user_deleted" | "password_changed",
  ): Promise<string[]>;

  /** Closes the connections of ended sessions. Call it after the commit. */
  announceEndedSessions(sessionIds: string[], reason: SessionEndReason): void;

  /**
   * Finds sessions that any instance has ended recently, to close their connections. Polls must overlap, because a transaction stores
   * the time of its start, but commits later.
   */
  findEndedSessions(withinMs: number): Promise<queries.EndedSession[]>;

  /** Returns those of the given sessions that have ended or don't exist, no matter when they ended. */
  findEndedSessionsAmong(sessionIds: readonly string[]): Promise<string[]>;

  /** Deletes a batch of old sessions and tickets. Called by a job every few minutes. */
  deleteExpired(): Promise<{ sessions: number; tickets: number }>;
}

export type AuthServiceDependencies = {
  database: Database;
  config: Pick<Config, "REGISTRATION" | "QUOTA_SESSIONS"> & IssuerConfig;
  users: UserService;
  audit: AuditService;
  apiKeys: ApiKeyService;
  /** Rate-limits password guesses. */
  guard: LoginGuard;
  /** Limits the password checks that a user may run concurrently. */
  checksPerUser: Slots;
  jwtSecret: string;
  /** Sends requests to the issuer. */
  fetch: Fetch;
  log: Log;
  /** Called after sessions were ended on this instance, to close their connections. */
  onSessionsEnded(sessionIds: string[], reason: SessionEndReason): void;
  /** If absent, the defaults apply. */
  issuerKeyTimes?: KeyTimes;
};

export function createAuthService(deps: AuthServiceDependencies): AuthService {
  const {
    database,
    config,
    users,
    audit,
    apiKeys,
    guard,
    checksPerUser,
    jwtSecret,
    fetch,
    log,
    onSessionsEnded,
    issuerKeyTimes,
  } = deps;
  const accessTokenSigner = createAccessTokenSigner(jwtSecret);
  const refreshTokenSigner = createRefreshTokenSigner(jwtSecret);
  const onReuse = (sessionId: string) => announceEndedSessions([sessionId], "token_reused");
  const sessionQuota = createSessionQuota({ config, audit, announceEndedSessions });
  const sessionManager = createSessionManager({ database, audit, refreshTokenSigner, log, sessionQuota, onReuse });
  const sessionTerminator = createSessionTerminator({ database, audit, announceEndedSessions });
  const passwordChecker = createPasswordChecker({ database, users, audit, guard });
  const ownPasswordService = createOwnPasswordService({
    database,
    users,
    audit,
    apiKeys,
    passwordChecker,
    checksPerUser,
    announceEndedSessions,
  });
  const issuers = createIssuerService(
    { database, config, users, audit, passwordChecker, sessionQuota, fetch, log },
    issuerKeyTimes,
  );
  const loginService = createLoginService({
    database,
    config,
    users,
    audit,
    accessTokenSigner,
    refreshTokenSigner,
    sessionManager,
    passwordChecker,
    guard,
    issuers,
  });
  const authenticator = createAuthenticator({ database, accessTokenSigner, apiKeys, issuers });

  function announceEndedSessions(sessionIds: string[], reason: SessionEndReason): void {
    if (sessionIds.length === 0) return;
    authenticator.forgetSessions(sessionIds);
    onSessionsEnded(sessionIds, reason);
  }

  return {
    ...loginService,
    ...authenticator,
    reauthenticate: ownPasswordService.reauthenticate,
    changePassword: ownPasswordService.change,

    async reauthenticateForNewEmail(caller, password) {
      const hash = await ownPasswordService.reauthenticate(caller, password);
      if (config.REGISTRATION_PRIVACY === "off") return hash;
      // Every new address is rejected, so the error doesn't reveal whether the address is taken.
      throw new Problem("forbidden", "Users can't change their email address on this server. Ask an administrator.");
    },

    listIdentities: issuers.listIdentities,
    linkIdentity: (caller, token, password) =>
      ownPasswordService.runLimited(caller, () => issuers.link(caller, token, password)),

    async unlinkIdentity(caller, identityId) {
      announceEndedSessions(await issuers.unlink(caller, identityId), "ended");
    },

    listSessions: (caller, limit, beforeId) => queries.listSessions(database, caller.user.id, limit, beforeId),

    async endSession(caller, sessionId) {
      if (!(await sessionTerminator.endOwnSession(caller, sessionId))) throw createNotFoundProblem("session");
    },

    endSessions: sessionTerminator.endAllSessions,

    async logout(refreshToken, ipAddress) {
      const sessionId = await sessionManager.findByToken(refreshToken);
      if (sessionId !== null) await sessionTerminator.logOut(sessionId, ipAddress);
    },

    async endSessionsInTransaction(sql, userId, reason) {
      const ids = await queries.endUserSessions(sql, userId, reason);
      if (reason === "user_deleted") await queries.eraseClientData(sql, userId);
      return ids;
    },

    announceEndedSessions,

    findEndedSessions: (withinMs) => queries.listEndedSessions(getReservedPool(database), withinMs / 1000),
    findEndedSessionsAmong: (sessionIds) => queries.listEndedSessionsAmong(getReservedPool(database), sessionIds),

    async deleteExpired() {
      const tickets = await queries.deleteExpiredTickets(database);
      return { tickets, sessions: await queries.deleteOldSessions(database, ENDED_SESSION_RETENTION_S) };
    },
  };
}
