import { createHash } from "node:crypto";
import type { Caller, RequestOrigin } from "../../access/caller.ts";
import { createLookupCache } from "../../cache/lookup-cache.ts";
import { type Database, getReservedPool, type Sql, withTransaction } from "../../db/client.ts";
import { createSecret } from "../../lib/id.ts";
import { Problem } from "../../lib/problem.ts";
import type { ApiKeyService } from "../api-keys/service.ts";
import type { AccessTokenSigner } from "./access-tokens.ts";
import { IDENTITIES_CACHED_MAX, IDENTITY_CACHE_MS, TICKET_TTL_S } from "./limits.ts";
import type { Ticket } from "./model.ts";
import type { IssuerService } from "./oidc/service.ts";
import * as queries from "./queries.ts";

const TICKET_PREFIX = "ptk_";
const ticketPattern = /^ptk_[\w-]{43}$/;

/** Authenticates callers by an access token, an API key, an issuer's token, or a ticket. */
export interface Authenticator {
  /**
   * Finds the caller with this access token, API key or issuer's token.
   * @throws Problem `unauthorized`, `forbidden` (not allowed to act for the requested user).
   */
  identify(token: string, origin: RequestOrigin): Promise<Caller>;

  /**
   * Creates a ticket for the caller's credential. If an API key acts for a user, the ticket is for that user. The ticket becomes invalid
   * when the credential expires.
   */
  createTicket(caller: Caller): Promise<Ticket>;

  /**
   * Finds the caller that a ticket was issued to. Uses up the ticket, even if its session or API key has been revoked.
   * @throws Problem `unauthorized`, `forbidden` (the request has `X-On-Behalf-Of`, but the ticket determines the user).
   */
  redeemTicket(ticket: string, origin: RequestOrigin): Promise<Caller>;

  /** Returns whether the caller's session or key still grants access, regardless of the access token's expiry. */
  hasAccess(caller: Caller): Promise<boolean>;

  /** Removes sessions from the cache. Call it after sessions were ended on any instance. */
  forgetSessions(sessionIds: string[]): void;

  /** Clears the caches. Call it after a user's role or status has changed. */
  forgetIdentities(): void;
}

type Dependencies = {
  database: Database;
  accessTokenSigner: AccessTokenSigner;
  apiKeys: ApiKeyService;
  issuers: Pick<IssuerService, "hasIssuerClaim" | "findOrOpenSession">;
};

export function createAuthenticator({ database, accessTokenSigner, apiKeys, issuers }: Dependencies): Authenticator {
  // Because of the cache, a burst of requests needs only one query. The cache time is short, so that this instance soon notices when
  // another instance ends a session.
  const sessionUsers = createLookupCache((sessionId) => queries.findSessionUser(getReservedPool(database), sessionId), {
    ttlMs: IDENTITY_CACHE_MS,
    entriesMax: IDENTITIES_CACHED_MAX,
  });

  async function identifySession(
    sessionId: string,
    expiresAtMs: number,
    { ipAddress }: RequestOrigin,
  ): Promise<Caller | null> {
    const user = await sessionUsers.find(sessionId);
    return user ? { user, credentialId: sessionId, scopes: null, expiresAtMs, ipAddress } : null;
  }

  async function identifyIssuerToken(token: string, origin: RequestOrigin): Promise<Caller> {
    const { sessionId, expiresAtMs } = await issuers.findOrOpenSession(token, origin.ipAddress);
    const caller = await identifySession(sessionId, expiresAtMs, origin);
    if (!caller) throw createUnauthorizedProblem();
    if (origin.onBehalfOf !== null) throw createOnBehalfOfProblem();
    return caller;
  }

  async function identifyTicket(row: queries.TicketRow, origin: RequestOrigin): Promise<Caller | null> {
    const expiresAtMs = row.credential_expires_at?.getTime() ?? Number.POSITIVE_INFINITY;
    if (expiresAtMs <= Date.now()) return null;
    if (row.session_id !== null) return identifySession(row.session_id, expiresAtMs, origin);
    if (row.api_key_id === null || row.user_id === null) return null;
    return apiKeys.findCallerByKeyId({ keyId: row.api_key_id, userId: row.user_id }, origin.ipAddress);
  }

  return {
    async identify(token, origin) {
      if (apiKeys.looksLikeKey(token)) {
        const keyCaller = await apiKeys.findCaller(token, origin);
        if (!keyCaller) throw createUnauthorizedProblem();
        return keyCaller;
      }
      if (issuers.hasIssuerClaim(token)) return identifyIssuerToken(token, origin);
      const claims = await accessTokenSigner.verify(token);
      const caller = claims && (await identifySession(claims.sessionId, claims.expiresAtMs, origin));
      if (!caller || caller.user.id !== claims.userId) throw createUnauthorizedProblem();
      if (origin.onBehalfOf !== null) throw createOnBehalfOfProblem();
      return caller;
    },

    async createTicket(caller) {
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

    async redeemTicket(ticket, origin) {
      const consume = (sql: Sql) => queries.consumeTicket(sql, hashTicket(ticket));
      const row = ticketPattern.test(ticket) ? await withTransaction(database, consume) : undefined;
      const caller = row ? await identifyTicket(row, origin) : null;
      if (!caller)
        throw new Problem("unauthorized", "The ticket is invalid, already used or expired. Request a new one.");
      if (origin.onBehalfOf !== null) throw createOnBehalfOfProblem();
      return caller;
    },

    async hasAccess({ scopes, credentialId, user, ipAddress }) {
      if (scopes === null) return (await sessionUsers.find(credentialId)) !== undefined;
      return (await apiKeys.findCallerByKeyId({ keyId: credentialId, userId: user.id }, ipAddress)) !== null;
    },

    forgetSessions: (sessionIds) => sessionUsers.invalidate(sessionIds),

    forgetIdentities() {
      sessionUsers.invalidateAll();
      apiKeys.forgetUsers();
    },
  };
}

const createUnauthorizedProblem = () =>
  new Problem("unauthorized", "The access token or API key is invalid or has expired.");
const createOnBehalfOfProblem = () => new Problem("forbidden", "Only a service key may act for another user.");

/** Hashes a ticket. A fast hash is secure, because a ticket has enough entropy. */
const hashTicket = (ticket: string): Buffer => createHash("sha256").update(ticket).digest();
