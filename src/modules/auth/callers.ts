import { createHash } from "node:crypto";
import type { Caller, RequestOrigin } from "../../access/caller.ts";
import { createLookupCache } from "../../cache/lookup-cache.ts";
import { type Database, getReservedPool, type Sql, withTransaction } from "../../db/client.ts";
import { createSecret } from "../../lib/id.ts";
import { Problem } from "../../lib/problem.ts";
import type { ApiKeyService } from "../api-keys/service.ts";
import type { AccessTokens } from "./access-tokens.ts";
import { IDENTITIES_CACHED_MAX, IDENTITY_CACHE_MS, TICKET_TTL_S } from "./limits.ts";
import type { Ticket } from "./model.ts";
import type { IssuerService } from "./oidc/service.ts";
import * as queries from "./queries.ts";

const TICKET_PREFIX = "ptk_";
const ticketForm = /^ptk_[\w-]{43}$/;

/** Authenticates callers: by an access token, an API key, an issuer's token, or a ticket. */
export interface Callers {
  /**
   * The caller with this access token or API key, on HTTP and on sockets.
   * @throws Problem `unauthorized`, `forbidden` (may not act for the requested user).
   */
  identify(token: string, origin: RequestOrigin): Promise<Caller>;

  /** For every caller. A ticket stands for the caller's credential and acting user, and expires with the credential. */
  createTicket(caller: Caller): Promise<Ticket>;

  /**
   * The caller a ticket was issued to. This uses up the ticket, even if its session or key has ended.
   * @throws Problem `unauthorized`, `forbidden` (the user is fixed by the ticket).
   */
  redeemTicket(ticket: string, origin: RequestOrigin): Promise<Caller>;

  /** Whether the caller's session or key still grants access, even if the access token has expired meanwhile. */
  isStillIn(caller: Caller): Promise<boolean>;

  /** These sessions have ended, here or on another instance: takes effect immediately. */
  forgetSessions(sessionIds: string[]): void;

  /** A user's role or status changed: takes effect immediately on this instance. */
  forgetIdentities(): void;
}

type Dependencies = {
  database: Database;
  accessTokens: AccessTokens;
  apiKeys: ApiKeyService;
  issuers: Pick<IssuerService, "isAddressed" | "findSession">;
};

export function createCallers({ database, accessTokens, apiKeys, issuers }: Dependencies): Callers {
  // Short, so that a session ended elsewhere is noticed soon; a burst of requests costs one query.
  const users = createLookupCache((sessionId) => queries.findSessionUser(getReservedPool(database), sessionId), {
    ttlMs: IDENTITY_CACHE_MS,
    entriesMax: IDENTITIES_CACHED_MAX,
  });

  async function identifySession(
    sessionId: string,
    expiresAtMs: number,
    { ipAddress }: RequestOrigin,
  ): Promise<Caller | null> {
    const user = await users.find(sessionId);
    return user ? { user, credentialId: sessionId, scopes: null, expiresAtMs, ipAddress } : null;
  }

  async function identifyIssuerToken(token: string, origin: RequestOrigin): Promise<Caller> {
    const { sessionId, expiresAtMs } = await issuers.findSession(token, origin.ipAddress);
    const caller = await identifySession(sessionId, expiresAtMs, origin);
    if (!caller) throw createRefusal();
    if (origin.onBehalfOf !== null) throw createActingRefusal();
    return caller;
  }

  async function identifyTicket(row: queries.TicketRow, origin: RequestOrigin): Promise<Caller | null> {
    const expiresAtMs = row.credential_expires_at?.getTime() ?? Number.POSITIVE_INFINITY;
    if (expiresAtMs <= Date.now()) return null;
    if (row.session_id !== null) return identifySession(row.session_id, expiresAtMs, origin);
    if (row.api_key_id === null || row.user_id === null) return null;
    return apiKeys.findHolder({ keyId: row.api_key_id, userId: row.user_id }, origin.ipAddress);
  }

  return {
    async identify(token, origin) {
      if (apiKeys.claimsKey(token)) {
        const holder = await apiKeys.findCaller(token, origin);
        if (!holder) throw createRefusal();
        return holder;
      }
      if (issuers.isAddressed(token)) return identifyIssuerToken(token, origin);
      const claims = await accessTokens.verify(token);
      const caller = claims && (await identifySession(claims.sessionId, claims.expiresAtMs, origin));
      if (!caller || caller.user.id !== claims.userId) throw createRefusal();
      if (origin.onBehalfOf !== null) throw createActingRefusal();
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
      const take = (sql: Sql) => queries.consumeTicket(sql, hashTicket(ticket));
      const row = ticketForm.test(ticket) ? await withTransaction(database, take) : undefined;
      const caller = row ? await identifyTicket(row, origin) : null;
      if (!caller)
        throw new Problem("unauthorized", "The ticket is invalid, already used or expired. Request a new one.");
      if (origin.onBehalfOf !== null) throw createActingRefusal();
      return caller;
    },

    async isStillIn({ scopes, credentialId, user, ipAddress }) {
      if (scopes === null) return (await users.find(credentialId)) !== undefined;
      return (await apiKeys.findHolder({ keyId: credentialId, userId: user.id }, ipAddress)) !== null;
    },

    forgetSessions: (sessionIds) => users.forget(sessionIds),

    forgetIdentities() {
      users.forgetAll();
      apiKeys.forgetUsers();
    },
  };
}

const createRefusal = () => new Problem("unauthorized", "The access token or API key is invalid or has expired.");
const createActingRefusal = () => new Problem("forbidden", "Only a service key may act for another user.");

/** A ticket has enough entropy for a plain hash. */
const hashTicket = (ticket: string): Buffer => createHash("sha256").update(ticket).digest();
