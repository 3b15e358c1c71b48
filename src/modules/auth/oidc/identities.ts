import type { Caller } from "../../../access/caller.ts";
import { type Database, type Sql, withTransaction } from "../../../db/client.ts";
import { createId } from "../../../lib/id.ts";
import { createNotFoundProblem, Problem } from "../../../lib/problem.ts";
import type { AuditAction } from "../../audit/model.ts";
import type { AuditService } from "../../audit/service.ts";
import type { UserService } from "../../users/service.ts";
import type { PasswordChecker } from "../password-checks.ts";
import { IDENTITIES_PER_USER_MAX } from "./limits.ts";
import type { Identity } from "./model.ts";
import * as queries from "./queries.ts";

type IdentitiesDependencies = {
  database: Database;
  users: UserService;
  audit: AuditService;
  passwordChecker: PasswordChecker;
};

/** Creates the service that lists, links and unlinks users' identities at the issuer. */
export function createIdentityService({ database, users, audit, passwordChecker }: IdentitiesDependencies) {
  const createAuditEntry = (action: AuditAction, { user, credentialId, ipAddress }: Caller, issuer: string) => {
    const target = { type: "user", id: user.id } as const;
    return { action, actorId: user.id, credentialId, target, ipAddress, details: { issuer } };
  };

  return {
    /** Lists the caller's own identities. */
    async list(caller: Caller): Promise<Identity[]> {
      return (await queries.listIdentities(database, caller.user.id)).map(mapRowToIdentity);
    },

    /**
     * Links an issuer's identity to the caller's account. Requires the password, because a linked identity gives permanent access to the
     * account. A stolen session must not be enough to get permanent access.
     * @throws Problem `forbidden` (wrong or missing password), `conflict` (the identity is linked to another account, or there are too
     * many).
     */
    async link(caller: Caller, { issuer, subject }: { issuer: string; subject: string }, password: string) {
      const passwordHash = await passwordChecker.verify(caller, password);
      const insert = async (sql: Sql) => {
        await users.lockUser(sql, caller.user.id, passwordHash);
        const identities = await queries.listIdentities(sql, caller.user.id);
        const existingIdentity = identities.find((row) => row.issuer === issuer && row.subject === subject);
        if (existingIdentity) return mapRowToIdentity(existingIdentity);
        if (identities.length >= IDENTITIES_PER_USER_MAX)
          throw new Problem("conflict", `An account can have at most ${IDENTITIES_PER_USER_MAX} identities.`);
        const row = await queries.insertIdentity(sql, { id: createId(), issuer, subject, userId: caller.user.id });
        if (!row) throw new Problem("conflict", "This identity is linked to another account.");
        await audit.record(sql, createAuditEntry("user.identity_linked", caller, issuer));
        return mapRowToIdentity(row);
      };
      return withTransaction(database, insert, `user:${caller.user.id}`);
    },

    /**
     * Unlinks one of the caller's own identities, and ends the sessions that were opened with issuers' tokens.
     * @returns the ended sessions, for `announceEndedSessions`. @throws Problem `not_found`, `conflict` (the only way to log in).
     */
    async unlink(caller: Caller, identityId: string): Promise<string[]> {
      const remove = async (sql: Sql) => {
        await users.lockUser(sql, caller.user.id, undefined);
        const linkedIdentities = await queries.listIdentities(sql, caller.user.id);
        const row = linkedIdentities.find(({ id }) => id === identityId.toLowerCase());
        if (!row) throw createNotFoundProblem("identity");
        if (linkedIdentities.length === 1 && !(await users.hasPassword(sql, caller.user.id)))
          throw new Problem("conflict", "This account has no password, so its only identity can't be unlinked.");
        await queries.deleteIdentity(sql, row.id, caller.user.id);
        await audit.record(sql, createAuditEntry("user.identity_unlinked", caller, row.issuer));
        return queries.endIssuerSessions(sql, caller.user.id);
      };
      return withTransaction(database, remove, `user:${caller.user.id}`);
    },
  };
}

function mapRowToIdentity({ created_at, ...row }: queries.IdentityRow): Identity {
  return { ...row, created_at: created_at.toISOString() };
}
