import type { Caller } from "../../../access/caller.ts";
import type { Database } from "../../../db/client.ts";
import type { Log } from "../../../lib/log.ts";
import { createInvalid, Problem } from "../../../lib/problem.ts";
import type { AuditService } from "../../audit/service.ts";
import type { UserService } from "../../users/service.ts";
import type { PasswordChecks } from "../password-checks.ts";
import { createIssuerAccounts } from "./accounts.ts";
import { createIdentities } from "./identities.ts";
import { createKeySource } from "./key-source.ts";
import { createIssuerKeys } from "./keys.ts";
import { type KeyTimes, keyTimes } from "./limits.ts";
import type { Identity } from "./model.ts";
import { createTokenSessions } from "./token-sessions.ts";
import { createIssuerTokens, type IssuerClaims } from "./tokens.ts";

/** The one issuer whose tokens are accepted. */
export type IssuerOptions = {
  issuer: string;
  audience: string[];
  jwksUrl: string | undefined;
  isProvisioning: boolean;
  times?: KeyTimes;
};

type Dependencies = {
  database: Database;
  users: UserService;
  audit: AuditService;
  passwordChecks: PasswordChecks;
  log: Log;
};

/** Sign-in by an issuer of OpenID Connect (docs/decisions/0041); without one, only the list of identities is left. */
export function createIssuerService(deps: Dependencies, options: IssuerOptions | null) {
  const identities = createIdentities(deps);
  const current = options && createIssuer(deps, options);

  function requireIssuer() {
    if (!current) throw new Problem("not_found", "This server has no issuer of identities; see OIDC_ISSUER.");
    return current;
  }

  async function verify(token: string): Promise<IssuerClaims> {
    const claims = await requireIssuer().tokens.verify(token);
    if (!claims)
      throw new Problem("unauthorized", "The token is not of the issuer, not for this server, or no longer good.");
    return claims;
  }

  return {
    /** Whether a credential says that it is of the issuer; only then `findSession` looks at it. */
    isAddressed: (token: string): boolean => current?.tokens.isAddressed(token) ?? false,

    /**
     * The session of a token of the issuer that is used as a credential. Whether it lives is not looked at.
     * @throws Problem `unauthorized`, `forbidden`, `registration_closed`, `conflict`, `unavailable`.
     */
    async findSession(token: string, ipAddress: string | null): Promise<{ sessionId: string; expiresAtMs: number }> {
      const claims = await verify(token);
      const sessionId = await requireIssuer().sessions.find(claims, ipAddress);
      return { sessionId, expiresAtMs: claims.expiresAtMs };
    },

    /**
     * Whose token it is, for a login with it.
     * @throws Problem `not_found` (no issuer), `unauthorized`, `forbidden`, `registration_closed`, `conflict`, `unavailable`.
     */
    async findUser(token: string, ipAddress: string | null): Promise<{ userId: string; claims: IssuerClaims }> {
      const claims = await verify(token);
      return { userId: await requireIssuer().accounts.findOrCreate(claims, ipAddress), claims };
    },

    /** @throws Problem `not_found` (no issuer), `invalid` (the token), `forbidden`, `conflict`, `unavailable`. */
    async link(caller: Caller, token: string, password: string): Promise<Identity> {
      const { issuer, tokens } = requireIssuer();
      const claims = await tokens.verify(token);
      if (!claims)
        throw createInvalid("#/token", "The token is not of the issuer, not for this server, or no longer good.");
      return identities.link(caller, { issuer, subject: claims.subject }, password);
    },

    listIdentities: identities.list,
    unlink: identities.unlink,
  };
}

export type IssuerService = ReturnType<typeof createIssuerService>;

function createIssuer({ database, users, audit, log }: Dependencies, options: IssuerOptions) {
  const { issuer, audience, isProvisioning, times = keyTimes } = options;
  const findKey = createIssuerKeys({ issuer, source: createKeySource(options), log, times });
  const tokens = createIssuerTokens({ issuer, audience, findKey, times });
  const accounts = createIssuerAccounts({ database, users, audit, issuer, isProvisioning });
  return { issuer, tokens, accounts, sessions: createTokenSessions({ database, audit, issuer, accounts }) };
}
