import type { Caller } from "../../access/caller.ts";
import { requireScope } from "../../access/scopes.ts";
import { type Database, isUniqueViolation, requireRow, type Sql, withTransaction } from "../../db/client.ts";
import { Problem } from "../../lib/problem.ts";
import type { AuditAction, AuditEntry } from "../audit/model.ts";
import type { AuditService } from "../audit/service.ts";
import type { AuthService } from "../auth/service.ts";
import type { User } from "../users/model.ts";
import {
  createEmailTaken,
  createRequester,
  mapRowToUser,
  parseEmail,
  type UserRow,
  type UserService,
} from "../users/service.ts";
import type { Deletions } from "./deletion.ts";
import { createExport } from "./export.ts";
import type { UserChange, UserCreation } from "./model.ts";
import * as queries from "./queries.ts";

export { createDeletions } from "./deletion.ts";

/** Queues account changes one after another, because each one locks all administrators. */
const ADMINISTRATORS = "administrators";

/** Account administration, export and deletion. */
export interface AccountService {
  /** Lists accounts, newest first. For administrators. */
  list(q: string | undefined, afterId: string | null, rows: number): Promise<UserRow[]>;

  /** Returns one account. For administrators. @throws Problem `not_found`. */
  get(userId: string): Promise<User>;

  /**
   * Creates an account. For administrators.
   * @throws Problem `invalid`, `conflict` (the e-mail address is taken), `forbidden`, `rate_limited`, `overloaded`.
   */
  create(caller: Caller, input: UserCreation): Promise<User>;

  /**
   * Changes an account. For administrators. Disabling a user or setting their password ends all their sessions; a new
   * role takes effect immediately. To change their own password or e-mail address, administrators must reauthenticate like
   * every other user.
   * @throws Problem `not_found`, `invalid`, `conflict` (the last administrator, or the e-mail address is taken), `forbidden`,
   * `reauthentication_required`, `rate_limited`, `overloaded`.
   */
  change(caller: Caller, userId: string, input: UserChange): Promise<User>;

  /**
   * Deletes an account with all personal data. For administrators. Content shared with others stays, without the name.
   * @throws Problem `not_found`, `conflict` (the last administrator), `forbidden`, `reauthentication_required` (the
   * administrator's own account).
   */
  remove(caller: Caller, userId: string): Promise<void>;

  /**
   * Deletes the caller's own account. Requires their password, or a login less than 5 minutes old.
   * @throws Problem `reauthentication_required`, `forbidden`, `conflict` (the last administrator), `rate_limited`,
   * `overloaded`.
   */
  removeOwn(caller: Caller, password: string | undefined): Promise<void>;

  /** Logs a user out everywhere. For administrators. @throws Problem `not_found`, `forbidden`. */
  endSessions(caller: Caller, userId: string): Promise<void>;

  /** Exports all the caller's stored data, as chunks of one JSON document. @throws Problem `not_found`. */
  exportOwn(caller: Caller): Promise<AsyncGenerator<string>>;
}

type Dependencies = {
  database: Database;
  users: UserService;
  auth: AuthService;
  audit: AuditService;
  deletions: Deletions;
  /** Called when a user's visible name changes. */
  onRenamed(userId: string): void;
};

export function createAccountService({
  database,
  users,
  auth,
  audit,
  deletions,
  onRenamed,
}: Dependencies): AccountService {
  const { parseDisplayName } = users;

  /** Records in the audit log what a caller did to a user. */
  function record(
    sql: Sql,
    { user, credentialId, ipAddress }: Caller,
    action: AuditAction,
    userId: string,
    details: AuditEntry["details"] = {},
  ): Promise<void> {
    const target = { type: "user", id: userId } as const;
    return audit.record(sql, { action, actorId: user.id, credentialId, target, ipAddress, details });
  }

  /**
   * Locks a user for a change.
   * @param remainsAdmin whether the user will still be an enabled administrator after the change.
   * @param isSelfService whether users may make this change to their own account.
   * @throws Problem `not_found`, `conflict` (the last administrator), `forbidden` (the caller is no longer an administrator).
   */
  async function lock(
    sql: Sql,
    caller: Caller,
    userId: string,
    remainsAdmin: (row: UserRow) => boolean,
    isSelfService = false,
  ): Promise<UserRow> {
    const locked = await queries.lockWithAdministrators(sql, userId);
    const target = requireRow(
      locked.find(({ id }) => id === userId),
      "user",
    );
    const administrators = locked.filter(({ role, disabled_at }) => role === "admin" && disabled_at === null);
    if (administrators.some(({ id }) => id === userId) && administrators.length === 1 && !remainsAdmin(target))
      throw new Problem("conflict", "This is the last administrator. Make another user an administrator first.");
    if (!isSelfService) requireGrant(caller, target.role);
    if (!isSelfService && !administrators.some(({ id }) => id === caller.user.id))
      throw new Problem("forbidden", "Only administrators may do this.");
    return target;
  }

  /**
   * Hashes a password that an administrator sets.
   * @param newEmail the e-mail address set in the same request. @throws Problem `not_found`, `invalid`, `forbidden`.
   */
  async function hashNewPassword(
    caller: Caller,
    userId: string,
    password: string,
    newEmail: string | undefined,
  ): Promise<string> {
    const { email, role } = requireRow(await queries.findAccount(database, userId), "user");
    requireGrant(caller, role);
    return users.hashPassword({ password, email: newEmail ?? email }, createRequester(caller));
  }

  /**
   * Deletes a user.
   * @param checkSelf checks, under the lock, whether the caller may delete their own account. If absent, the caller must be
   * an administrator.
   */
  async function remove(caller: Caller, userId: string, checkSelf?: (sql: Sql) => Promise<void>): Promise<void> {
    const begin = async (sql: Sql) => {
      await lock(sql, caller, userId, () => false, checkSelf !== undefined);
      await checkSelf?.(sql);
      const ids = await auth.endUser(sql, userId, "user_deleted");
      await deletions.begin(sql, userId);
      await record(sql, caller, "user.deleted", userId);
      return ids;
    };
    const ended = await withTransaction(database, begin, ADMINISTRATORS);
    onRenamed(userId);
    auth.announceEnd(ended, "user_deleted");
    auth.forgetIdentities();
    await deletions.complete(userId);
    // Again, because the first call may have come before the deletion was published.
    onRenamed(userId);
  }

  return {
    list: (q, afterId, rows) => queries.listAccounts(database, { q, afterId, rows }),

    async get(userId) {
      return mapRowToUser(requireRow(await queries.findAccount(database, userId), "user"));
    },

    async create(caller, input) {
      requireGrant(caller, input.role);
      const { user } = await users.createUser(input, createRequester(caller), (sql, { id, role }) =>
        record(sql, caller, "user.created", id, { role }),
      );
      return user;
    },

    async change(caller, userId, input) {
      requireGrant(caller, input.role);
      const name = input.display_name === undefined ? undefined : parseDisplayName(input.display_name);
      const email = input.email === undefined ? undefined : parseEmail(input.email);
      const changesCredentials = input.password !== undefined || email !== undefined;
      if (changesCredentials && userId === caller.user.id) await auth.reauthenticate(caller, undefined);
      const passwordHash =
        input.password === undefined
          ? undefined
          : await hashNewPassword(caller, userId, input.password, email?.address);
      const update = async (sql: Sql) => {
        const before = await lock(
          sql,
          caller,
          userId,
          ({ role }) => (input.role ?? role) === "admin" && input.disabled !== true,
        );
        const wasDisabled = before.disabled_at !== null;
        const { role = before.role, disabled: isDisabled = wasDisabled } = input;
        const passwordReason = passwordHash === undefined ? null : ("password_changed" as const);
        const reason = isDisabled && !wasDisabled ? ("user_disabled" as const) : passwordReason;
        const ended = reason ? await auth.endUser(sql, userId, reason) : [];
        if (passwordHash !== undefined) {
          await users.storePasswordHash(sql, userId, passwordHash);
          await record(sql, caller, "user.password_changed", userId);
        }
        if (role !== before.role) await record(sql, caller, "user.role_changed", userId, { role });
        if (isDisabled !== wasDisabled)
          await record(sql, caller, isDisabled ? "user.disabled" : "user.enabled", userId);
        const isRenamed = name !== undefined && name !== before.display_name;
        if (isRenamed) await record(sql, caller, "user.changed", userId, { field: "display_name" });
        const isEmailChanged = email !== undefined && email.address !== before.email;
        if (isEmailChanged) await record(sql, caller, "user.changed", userId, { field: "email" });
        const isChanged = role !== before.role || isDisabled !== wasDisabled || isRenamed || isEmailChanged;
        const change = {
          role,
          isDisabled,
          ...(isRenamed && { display_name: name }),
          ...(isEmailChanged && { email }),
        };
        return { ended, reason, row: isChanged ? await queries.updateAccount(sql, userId, change) : before };
      };
      const { row, ended, reason } = await withTransaction(database, update, ADMINISTRATORS).catch(explainTaken);
      if (name !== undefined) onRenamed(userId);
      if (reason) auth.announceEnd(ended, reason);
      auth.forgetIdentities();
      return mapRowToUser(requireRow(row, "user"));
    },

    async remove(caller, userId) {
      if (userId === caller.user.id) await auth.reauthenticate(caller, undefined);
      await remove(caller, userId);
    },

    async removeOwn(caller, password) {
      const hash = await auth.reauthenticate(caller, password);
      await remove(caller, caller.user.id, (sql) => users.lockUser(sql, caller.user.id, hash));
    },

    async endSessions(caller, userId) {
      requireGrant(caller, requireRow(await queries.findAccount(database, userId), "user").role);
      await auth.endSessions(caller, userId);
    },

    async exportOwn(caller) {
      const user = await users.getUser(caller.user.id);
      await record(database, caller, "user.exported", user.id);
      return createExport(database, user, await users.getPreferences(user.id));
    },
  };
}

function explainTaken(error: unknown): never {
  throw isUniqueViolation(error, "users_email_key") ? createEmailTaken() : error;
}

/** Creating, changing or deleting an administrator needs more than the scope for writing users. @throws Problem `forbidden`. */
function requireGrant({ scopes }: Caller, role: User["role"] | undefined): void {
  if (role === "admin") requireScope(scopes, "admin");
}
