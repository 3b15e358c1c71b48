import { randomBytes } from "node:crypto";
import type { Config } from "../../config.ts";
import type { Database, Sql } from "../../db/client.ts";
import { createId } from "../../lib/id.ts";
import { padDuration } from "../../lib/pad-duration.ts";
import { Problem } from "../../lib/problem.ts";
import type { Requester } from "../../limits/hash-queue.ts";
import type { LoginGuard } from "../../limits/login-guard.ts";
import type { AuditService } from "../audit/service.ts";
import type { User } from "../users/model.ts";
import { parseEmail, type UserService, type VerifiedUser } from "../users/service.ts";
import type { AccessTokenSigner } from "./access-tokens.ts";
import { ACCESS_TOKEN_TTL_S, REGISTRATION_STEP_MS } from "./limits.ts";
import type { Client, Tokens } from "./model.ts";
import type { IssuerService } from "./oidc/service.ts";
import type { PasswordChecker } from "./password-checks.ts";
import type { RefreshTokenSigner } from "./refresh-tokens.ts";
import { type OpenSession, REFRESH_KEY_BYTES, type SessionManager } from "./sessions.ts";

/** Registers users, logs them in, and refreshes their tokens. */
export interface LoginService {
  /**
   * Creates an account if registration is open. With `REGISTRATION_PRIVACY`, the responses for taken and free email addresses look the same
   * and take the same time. The tokens in the response for a taken address are invalid (docs/decisions/0091).
   * @throws Problem `registration_closed`, `invalid`, `conflict`, `rate_limited`, `overloaded`.
   */
  register(input: { email: string; password: string; display_name?: string }, client: Client): Promise<Tokens>;

  /**
   * Logs in with a password.
   * @throws Problem `invalid`, `invalid_credentials`, `forbidden` (disabled), `rate_limited`, `overloaded`.
   */
  login(credentials: { email: string; password: string }, client: Client): Promise<Tokens>;

  /**
   * Opens a Parley session for the user of an issuer's token.
   * @throws Problem `not_found` (no issuer), `unauthorized`, `forbidden` (disabled, or no usable email address),
   * `registration_closed`, `conflict` (the email address is taken), `unavailable`.
   */
  loginWithIssuer(token: string, client: Client): Promise<Tokens>;

  /** Exchanges a refresh token for new tokens. @throws Problem `unauthorized`, `token_reused`. */
  refresh(refreshToken: string, ipAddress: string | null): Promise<Tokens>;
}

type Dependencies = {
  database: Database;
  config: Pick<Config, "REGISTRATION" | "REGISTRATION_PRIVACY">;
  users: UserService;
  audit: AuditService;
  accessTokenSigner: AccessTokenSigner;
  refreshTokenSigner: RefreshTokenSigner;
  sessionManager: SessionManager;
  passwordChecker: PasswordChecker;
  guard: Pick<LoginGuard, "startAttempt" | "findKnownBy" | "rememberAddress">;
  issuers: Pick<IssuerService, "findOrCreateUser">;
};

export function createLoginService(deps: Dependencies): LoginService {
  const {
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
  } = deps;

  const createAccountKey = (email: string) => `email:${parseEmail(email).key}`;

  async function createTokens(user: User, session: OpenSession): Promise<Tokens> {
    return {
      user,
      access_token: await accessTokenSigner.sign(session),
      token_type: "Bearer",
      expires_in: ACCESS_TOKEN_TTL_S,
      refresh_token: session.refreshToken,
    };
  }

  type Registration = Parameters<LoginService["register"]>[0];

  function createAccount(input: Registration, requester: Requester, hidesTakenEmail: boolean): Promise<VerifiedUser> {
    const { ipAddress } = requester;
    const recordRegistration = (sql: Sql, { id }: User) =>
      audit.record(sql, {
        action: "user.registered",
        actorId: id,
        credentialId: null,
        target: { type: "user", id },
        ipAddress,
      });
    return users.createUser(input, requester, recordRegistration, hidesTakenEmail);
  }

  /** Creates the same response as for a free email address, but its session doesn't exist. */
  async function createFakeTokens(input: Registration): Promise<Tokens> {
    const user = users.previewUser(input);
    const session = { sessionId: createId(), userId: user.id };
    const family = { sessionId: session.sessionId, generation: 0, refreshKey: randomBytes(REFRESH_KEY_BYTES) };
    return createTokens(user, { ...session, refreshToken: refreshTokenSigner.create(family) });
  }

  async function registerPrivately(input: Registration, client: Client): Promise<Tokens> {
    const { ipAddress, signal } = client;
    const account = createAccountKey(input.email);
    // A taken email address counts like a wrong password. Otherwise, registration could be used to find many addresses.
    const attempt = await guard.startAttempt(account, ipAddress);
    try {
      const { user, passwordHash } = await createAccount(
        input,
        { ipAddress, account, knownBy: attempt.knownBy, signal },
        true,
      );
      await guard.rememberAddress(account, ipAddress);
      return await createTokens(user, await sessionManager.open(user.id, { passwordHash }, client));
    } catch (error) {
      if (!(error instanceof Problem) || error.code !== "conflict") throw error;
      const owner = await users.findByEmail(input.email);
      const target = owner && ({ type: "user", id: owner.id } as const);
      const anonymous = { actorId: null, credentialId: null };
      await audit.record(database, { action: "user.registration_refused", ...anonymous, target, ipAddress });
      await passwordChecker.recordLocks(await attempt.fail(), owner?.id ?? null, ipAddress);
      return createFakeTokens(input);
    }
  }

  return {
    async register(input, client) {
      if (config.REGISTRATION === "closed")
        throw new Problem("registration_closed", "Registration is closed. Ask an administrator for an account.");
      if (config.REGISTRATION_PRIVACY === "on")
        return padDuration(REGISTRATION_STEP_MS, () => registerPrivately(input, client));
      const { ipAddress, signal } = client;
      const account = createAccountKey(input.email);
      const requester = { ipAddress, account, knownBy: await guard.findKnownBy(ipAddress), signal };
      const { user, passwordHash } = await createAccount(input, requester, false);
      await guard.rememberAddress(account, ipAddress);
      return createTokens(user, await sessionManager.open(user.id, { passwordHash }, client));
    },

    async login(credentials, client) {
      const { user, passwordHash } = await passwordChecker.checkLogin(credentials, client);
      return createTokens(user, await sessionManager.open(user.id, { passwordHash }, client));
    },

    async loginWithIssuer(token, client) {
      const { userId, claims } = await issuers.findOrCreateUser(token, client.ipAddress);
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
      return createTokens(user, await sessionManager.open(user.id, claims, client));
    },

    async refresh(refreshToken, ipAddress) {
      const session = await sessionManager.refresh(refreshToken, ipAddress);
      const user = await users.getUser(session.userId);
      // Most people log in once and then refresh for weeks. Remembering the IP address here keeps it known.
      await guard.rememberAddress(createAccountKey(user.email), ipAddress);
      return createTokens(user, session);
    },
  };
}
