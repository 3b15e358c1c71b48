import type { Caller } from "../../../access/caller.ts";
import type { Config } from "../../../config.ts";
import type { Database } from "../../../db/client.ts";
import type { Log } from "../../../lib/log.ts";
import type { Fetch } from "../../../lib/outgoing/create-fetch.ts";
import { createInvalidProblem, Problem } from "../../../lib/problem.ts";
import type { AuditService } from "../../audit/service.ts";
import type { UserService } from "../../users/service.ts";
import type { PasswordChecker } from "../password-checks.ts";
import type { SessionQuota } from "../session-quota.ts";
import { createIssuerAccountService } from "./accounts.ts";
import { createIdentityService } from "./identities.ts";
import { createKeySetFetcher } from "./key-source.ts";
import { createIssuerKeyCache } from "./keys.ts";
import { type KeyTimes, keyTimes } from "./limits.ts";
import type { Identity } from "./model.ts";
import { createTokenSessionFinder } from "./token-sessions.ts";
import { createIssuerTokenVerifier, type IssuerClaims } from "./tokens.ts";

/** The settings of the issuer whose tokens are accepted. */
export type IssuerConfig = Pick<
  Config,
  "OIDC_ISSUER" | "OIDC_AUDIENCE" | "OIDC_JWKS_URL" | "OIDC_PROVISION" | "REGISTRATION_PRIVACY"
>;

/** Provides login with an OpenID Connect issuer (docs/decisions/0041). Without an issuer, identities can only be listed. */
export interface IssuerService {
  /** Returns whether a credential claims to be from the issuer. If so, call `findOrOpenSession`. */
  hasIssuerClaim(token: string): boolean;

  /**
   * Finds or opens the session of an issuer's token that is used as a credential. Doesn't check whether the session is live.
   * @throws Problem `unauthorized`, `forbidden`, `registration_closed`, `conflict`, `unavailable`.
   */
  findOrOpenSession(token: string, ipAddress: string | null): Promise<{ sessionId: string; expiresAtMs: number }>;

  /**
   * Finds or creates the user who logs in with this token.
   * @throws Problem `not_found` (no issuer), `unauthorized`, `forbidden`, `registration_closed`, `conflict`,
   * `unavailable`.
   */
  findOrCreateUser(token: string, ipAddress: string | null): Promise<{ userId: string; claims: IssuerClaims }>;

  /**
   * Links a token's identity to the caller's account.
   * @throws Problem `not_found` (no issuer), `invalid` (the token), `forbidden`, `conflict`, `unavailable`.
   */
  link(caller: Caller, token: string, password: string): Promise<Identity>;

  /** Lists the caller's own identities. */
  listIdentities(caller: Caller): Promise<Identity[]>;

  /**
   * Unlinks one of the caller's identities.
   * @returns the ended sessions, for `announceEndedSessions`.
   * @throws Problem `not_found`, `conflict` (the only way to log in).
   */
  unlink(caller: Caller, identityId: string): Promise<string[]>;
}

type Dependencies = {
  database: Database;
  config: IssuerConfig;
  users: UserService;
  audit: AuditService;
  passwordChecker: PasswordChecker;
  sessionQuota: SessionQuota;
  fetch: Fetch;
  log: Log;
};

export function createIssuerService(deps: Dependencies, times: KeyTimes = keyTimes): IssuerService {
  const { OIDC_ISSUER } = deps.config;
  const identities = createIdentityService(deps);
  const issuerOrNull = OIDC_ISSUER === undefined ? null : createIssuer(deps, OIDC_ISSUER, times);

  function requireIssuer() {
    if (!issuerOrNull) throw new Problem("not_found", "Login with an issuer is off: OIDC_ISSUER is not set.");
    return issuerOrNull;
  }

  async function verify(token: string): Promise<IssuerClaims> {
    const claims = await requireIssuer().tokens.verify(token);
    if (!claims)
      throw new Problem("unauthorized", "The token is not from the issuer, not for this server, or has expired.");
    return claims;
  }

  return {
    hasIssuerClaim: (token) => issuerOrNull?.tokens.hasIssuerClaim(token) ?? false,

    async findOrOpenSession(token, ipAddress) {
      const claims = await verify(token);
      const sessionId = await requireIssuer().sessions.find(claims, ipAddress);
      return { sessionId, expiresAtMs: claims.expiresAtMs };
    },

    async findOrCreateUser(token, ipAddress) {
      const claims = await verify(token);
      return { userId: await requireIssuer().accounts.findOrCreate(claims, ipAddress), claims };
    },

    async link(caller, token, password) {
      const { issuer, tokens } = requireIssuer();
      const claims = await tokens.verify(token);
      if (!claims)
        throw createInvalidProblem("#/token", "The token is not from the issuer, not for this server, or has expired.");
      return identities.link(caller, { issuer, subject: claims.subject }, password);
    },

    listIdentities: identities.list,
    unlink: identities.unlink,
  };
}

function createIssuer(deps: Dependencies, issuer: string, times: KeyTimes) {
  const { database, config, users, audit, sessionQuota, fetch, log } = deps;
  const fetchKeySet = createKeySetFetcher({ issuer, jwksUrl: config.OIDC_JWKS_URL, fetch });
  const findKey = createIssuerKeyCache({ issuer, fetchKeySet, log, times });
  const tokens = createIssuerTokenVerifier({ issuer, audience: config.OIDC_AUDIENCE, findKey, times });
  const isProvisioning = config.OIDC_PROVISION === "on";
  const hidesTakenEmails = config.REGISTRATION_PRIVACY === "on";
  const accounts = createIssuerAccountService({ database, users, audit, issuer, isProvisioning, hidesTakenEmails });
  const sessions = createTokenSessionFinder({ database, audit, issuer, accounts, sessionQuota });
  return { issuer, tokens, accounts, sessions };
}
