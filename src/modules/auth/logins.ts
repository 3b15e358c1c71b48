import type { Config } from "../../config.ts";
import type { Database } from "../../db/client.ts";
import { Problem } from "../../lib/problem.ts";
import type { LoginGuard } from "../../limits/login-guard.ts";
import type { AuditService } from "../audit/service.ts";
import type { User } from "../users/model.ts";
import { parseEmail, type UserService } from "../users/service.ts";
import type { AccessTokens } from "./access-tokens.ts";
import { ACCESS_TOKEN_TTL_S } from "./limits.ts";
import type { Client, Tokens } from "./model.ts";
import type { IssuerService } from "./oidc/service.ts";
import type { PasswordChecks } from "./password-checks.ts";
import type { OpenSession, Sessions } from "./sessions.ts";

/** The ways to tokens: each opens a session, or goes on with one. */
export interface Logins {
  /** For everyone while registration is open. @throws Problem `registration_closed`, `invalid`, `conflict`, `rate_limited`, `overloaded`. */
  register(input: { email: string; password: string; display_name?: string }, client: Client): Promise<Tokens>;

  /** For everyone. @throws Problem `invalid`, `invalid_credentials`, `forbidden` (disabled), `rate_limited`, `overloaded`. */
  login(credentials: { email: string; password: string }, client: Client): Promise<Tokens>;

  /**
   * For everyone who has a token of the issuer: opens a session of ours.
   * @throws Problem `not_found` (no issuer), `unauthorized`, `forbidden` (disabled, or no usable address),
   * `registration_closed`, `conflict` (the address is taken), `unavailable`.
   */
  loginByIssuer(token: string, client: Client): Promise<Tokens>;

  /** For everyone who has the token. @throws Problem `unauthorized`, `token_reused`. */
  refresh(refreshToken: string, ipAddress: string | null): Promise<Tokens>;
}

type Dependencies = {
  database: Database;
  config: Pick<Config, "REGISTRATION">;
  users: UserService;
  audit: AuditService;
  accessTokens: AccessTokens;
  sessions: Sessions;
  passwordChecks: PasswordChecks;
  guard: Pick<LoginGuard, "findKnown" | "remember">;
  issuers: Pick<IssuerService, "findUser">;
};

export function createLogins(deps: Dependencies): Logins {
  const { database, config, users, audit, accessTokens, sessions, passwordChecks, guard, issuers } = deps;

  const createAccount = (email: string) => `email:${parseEmail(email).key}`;

  async function createTokens(user: User, session: OpenSession): Promise<Tokens> {
    return {
      user,
      access_token: await accessTokens.sign(session),
      token_type: "Bearer",
      expires_in: ACCESS_TOKEN_TTL_S,
      refresh_token: session.refreshToken,
    };
  }

  return {
    async register(input, client) {
      if (config.REGISTRATION === "closed")
        throw new Problem("registration_closed", "Ask an administrator for an account.");
      const { ipAddress, signal } = client;
      const account = createAccount(input.email);
      const requester = { ipAddress, account, knownBy: await guard.findKnown(ipAddress), signal };
      const { user, passwordHash } = await users.createUser(input, requester, (sql, { id }) =>
        audit.record(sql, {
          action: "user.registered",
          actorId: id,
          credentialId: null,
          target: { type: "user", id },
          ipAddress,
        }),
      );
      await guard.remember(account, ipAddress);
      return createTokens(user, await sessions.open(user.id, { passwordHash }, client));
    },

    async login(credentials, client) {
      const { user, passwordHash } = await passwordChecks.logIn(credentials, client);
      return createTokens(user, await sessions.open(user.id, { passwordHash }, client));
    },

    async loginByIssuer(token, client) {
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

    async refresh(refreshToken, ipAddress) {
      const session = await sessions.refresh(refreshToken, ipAddress);
      const user = await users.getUser(session.userId);
      // Most people log in once and then refresh for weeks: this is what keeps their address known.
      await guard.remember(createAccount(user.email), ipAddress);
      return createTokens(user, session);
    },
  };
}
