import { type Database, type Sql, withTransaction } from "../../../db/client.ts";
import { createId } from "../../../lib/id.ts";
import { Problem } from "../../../lib/problem.ts";
import type { AuditAction } from "../../audit/model.ts";
import type { AuditService } from "../../audit/service.ts";
import type { User } from "../../users/model.ts";
import type { UserService } from "../../users/service.ts";
import * as queries from "./queries.ts";
import type { IssuerClaims } from "./tokens.ts";

/** Finds or creates accounts for the issuer's identities. */
export interface IssuerAccountService {
  /**
   * Finds the user of a token. For a new identity, creates exactly one account, even if requests are concurrent. An existing account with
   * the same email address is never taken over (docs/decisions/0041).
   * @throws Problem `unauthorized` (the token was revoked), `registration_closed`, `forbidden` (no usable email
   * address), `conflict` (the email address is taken).
   */
  findOrCreate(claims: IssuerClaims, ipAddress: string | null): Promise<string>;
}

type AccountsDependencies = {
  database: Database;
  users: UserService;
  audit: AuditService;
  issuer: string;
  /** Whether accounts are created for new identities. */
  isProvisioning: boolean;
  /** Whether responses hide that an email address has an account (REGISTRATION_PRIVACY). */
  hidesTakenEmails: boolean;
};

/** Thrown to roll back the transaction if a concurrent request has created the same account. */
class LostRaceError extends Error {}

export function createIssuerAccountService(deps: AccountsDependencies): IssuerAccountService {
  const { database, users, audit, issuer, isProvisioning, hidesTakenEmails } = deps;

  async function createAccount(sql: Sql, claims: IssuerClaims, ipAddress: string | null): Promise<string> {
    const user = await createPasswordlessUser(sql, claims);
    // The email address is taken, perhaps by a faster concurrent request for the same identity.
    const userId = user?.id ?? (await queries.findIdentityUser(sql, { issuer, subject: claims.subject }));
    if (userId === undefined) throw createEmailTakenProblem();
    if (!user) return userId;
    const identity = { id: createId(), issuer, subject: claims.subject, userId };
    if (!(await queries.insertIdentity(sql, identity))) throw new LostRaceError();
    const record = (action: AuditAction) =>
      audit.record(sql, {
        action,
        actorId: userId,
        credentialId: null,
        target: { type: "user", id: userId },
        ipAddress,
        details: { issuer },
      });
    await record("user.registered");
    await record("user.identity_linked");
    return userId;
  }

  const createEmailTakenProblem = (): Problem =>
    hidesTakenEmails
      ? new Problem(
          "forbidden",
          "No account was created for this identity. If you have an account here, log in and link the identity with POST /api/v1/me/identities. Otherwise ask an administrator.",
        )
      : new Problem(
          "conflict",
          "An account with this email address exists. Log in with its password, then link the identity with POST /api/v1/me/identities.",
        );

  async function createPasswordlessUser(sql: Sql, { email, name }: IssuerClaims): Promise<User | null> {
    try {
      return await users.createPasswordlessUser(sql, { email: email ?? "", name });
    } catch (error) {
      if (!(error instanceof Problem) || error.code !== "invalid") throw error;
      // The request isn't invalid, because its only input, the token, is valid.
      throw new Problem("forbidden", "The email address in the issuer's token can't be used for an account.");
    }
  }

  function checkProvisioningAllowed({ email, isEmailVerified }: IssuerClaims): void {
    if (!isProvisioning)
      throw new Problem(
        "registration_closed",
        "No account is linked to this identity. Ask an administrator for an account, then link it.",
      );
    if (email === null)
      throw new Problem("forbidden", "The token contains no email address. Request the scope `email` from the issuer.");
    // If responses hide accounts, only the owner of an email address may find out whether it has an account.
    if (isEmailVerified === false || (hidesTakenEmails && isEmailVerified === null))
      throw new Problem("forbidden", "The issuer has not verified this email address yet.");
  }

  return {
    async findOrCreate(claims, ipAddress) {
      const findUserId = () => queries.findIdentityUser(database, { issuer, subject: claims.subject });
      const existingUserId = await findUserId();
      if (existingUserId !== undefined) return existingUserId;
      // A deleted account's tokens may still be valid. They must not create another account.
      if (await queries.isTokenRevoked(database, claims.tokenKey))
        throw new Problem("unauthorized", "A session of this token was ended. Get a new token from the issuer.");
      checkProvisioningAllowed(claims);
      try {
        const key = `identity:${claims.subject}`;
        return await withTransaction(database, (sql) => createAccount(sql, claims, ipAddress), key);
      } catch (error) {
        const concurrentUserId = error instanceof LostRaceError ? await findUserId() : undefined;
        if (concurrentUserId === undefined) throw error;
        return concurrentUserId;
      }
    },
  };
}
