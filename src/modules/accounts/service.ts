import type { Caller } from "../../access/caller.ts";
import { requireScope } from "../../access/scopes.ts";
import { type Database, isUniqueViolation, requireRow, type Sql, withTransaction } from "../../db/client.ts";
import { Problem } from "../../lib/problem.ts";
import type { AuditAction, AuditEntry } from "../audit/model.ts";
import type { AuditService } from "../audit/service.ts";
import type { AuthService } from "../auth/service.ts";
import type { User } from "../users/model.ts";
import {
  createEmailTakenError,
  createRequester,
  mapRowToUser,
  parseEmail,
  type UserRow,
  type UserService,
} from "../users/service.ts";
import type { DeletionService } from "./deletion.ts";
import { streamExport } from "./export.ts";
import type { UserChange, UserCreation } from "./model.ts";
import * as queries from "./queries.ts";

export { createDeletionService } from "./deletion.ts";

/** The key by which account changes are queued, because each one locks all administrators. */
const ACCOUNTS_QUEUE_KEY = "administrators";

/** Administers, exports and deletes accounts. */
export interface AccountService {
  /** Lists accounts, newest first. Administrators only. */
  list(q: string | undefined, afterId: string | null, rowsMax: number): Promise<UserRow[]>;

  /** Returns an account. Administrators only. @throws Problem `not_found`. */
  get(userId: string): Promise<User>;

  /**
   * Creates an account. Administrators only.
   * @throws Problem `invalid`, `conflict` (the email address is taken), `forbidden`, `rate_limited`, `overloaded`.
   */
  create(caller: Caller, input: UserCreation): Promise<User>;

  /**
   * Changes an account. Administrators only. Disabling a user or setting their password ends all their sessions. A new role takes
   * effect immediately. Administrators must reauthenticate to change their own password or email address.
   * @throws Problem `not_found`, `invalid`, `conflict` (the last administrator, or the email address is taken),
   * `forbidden`, `reauthentication_required`, `rate_limited`, `overloaded`.
   */
  change(caller: Caller, userId: string, input: UserChange): Promise<User>;

  /**
   * Deletes an account with all personal data. Administrators only. Content shared with other users is kept, without the name.
   * @throws Problem `not_found`, `conflict` (the last administrator), `forbidden`, `reauthentication_required` (the
   * administrator's own account).
   */
  remove(caller: Caller, userId: string): Promise<void>;

  /**
   * Deletes the caller's own account. Requires their password, or a login less than 5 minutes old.
   * @throws Problem `reauthentication_required`, `forbidden`, `conflict` (the last administrator), `rate_limited`,
   * `overloaded`.
   */
  removeOwnAccount(caller: Caller, password: string | undefined): Promise<void>;

  /** Ends all of a user's sessions. Administrators only. @throws Problem `not_found`, `forbidden`. */
  endSessions(caller: Caller, userId: string): Promise<void>;

  /** Exports all of the caller's stored data as one JSON document, in chunks. @throws Problem `not_found`. */
  exportOwnData(caller: Caller): Promise<AsyncGenerator<string>>;
}

type Dependencies = {
  database: Database;
  users: UserService;
  auth: AuthService;
  audit: AuditService;
  deletions: DeletionService;
  /** Called when a user's display name has changed or the user was deleted. */
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

  /** Records a caller's action on a user in the audit log. */
  function recordAudit(
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
   * @throws Problem `not_found`, `conflict` (the last administrator), `forbidden` (the caller is no longer an
   * administrator).
   */
  async function lockForChange(
    sql: Sql,
    caller: Caller,
    userId: string,
    remainsAdmin: (row: UserRow) => boolean,
    isSelfService = false,
  ): Promise<UserRow> {
    const lockedUsers = await queries.lockWithAdministrators(sql, userId);
    const target = requireRow(
      lockedUsers.find(({ id }) => id === userId),
      "user",
    );
    const administrators = lockedUsers.filter(({ role, disabled_at }) => role === "admin" && disabled_at === null);
    if (administrators.some(({ id }) => id === userId) && administrators.length === 1 && !remainsAdmin(target))
      throw new Problem("conflict", "This is the last administrator. Make another user an administrator first.");
    if (!isSelfService) requireAdminScopeFor(caller, target.role);
    if (!isSelfService && !administrators.some(({ id }) => id === caller.user.id))
      throw new Problem("forbidden", "Only administrators may do this.");
    return target;
  }

  /**
   * Hashes a password that an administrator sets.
   * @param newEmail the email address that the same request sets. @throws Problem `not_found`, `invalid`, `forbidden`.
   */
  async function hashNewPassword(
    caller: Caller,
    userId: string,
    password: string,
    newEmail: string | undefined,
  ): Promise<string> {
    const { email, role } = requireRow(await queries.findAccount(database, userId), "user");
    requireAdminScopeFor(caller, role);
    return users.hashPassword({ password, email: newEmail ?? email }, createRequester(caller));
  }

  /**
   * Deletes a user.
   * @param checkOwnAccount checks whether the caller may delete their own account, while the user is locked. If absent, the caller must be
   * an administrator.
   */
  async function remove(caller: Caller, userId: string, checkOwnAccount?: (sql: Sql) => Promise<void>): Promise<void> {
    const startDeletion = async (sql: Sql) => {
      await lockForChange(sql, caller, userId, () => false, checkOwnAccount !== undefined);
      await checkOwnAccount?.(sql);
      const ids = await auth.endSessionsInTransaction(sql, userId, "user_deleted");
      await deletions.begin(sql, userId);
      await recordAudit(sql, caller, "user.deleted", userId);
      return ids;
    };
    const endedSessionIds = await withTransaction(database, startDeletion, ACCOUNTS_QUEUE_KEY);
    onRenamed(userId);
    auth.announceEndedSessions(endedSessionIds, "user_deleted");
    auth.forgetIdentities();
    await deletions.waitForCompletion(userId);
    // Called again, because more data has been deleted since the first call.
    onRenamed(userId);
  }

  return {
    list: (q, afterId, rowsMax) => queries.listAccounts(database, { q, afterId, rowsMax }),

    async get(userId) {
      return mapRowToUser(requireRow(await queries.findAccount(database, userId), "user"));
    },

    async create(caller, input) {
      requireAdminScopeFor(caller, input.role);
      const { user } = await users.createUser(input, createRequester(caller), (sql, { id, role }) =>
        recordAudit(sql, caller, "user.created", id, { role }),
      );
      return user;
    },

    async change(caller, userId, input) {
      requireAdminScopeFor(caller, input.role);
      const name = input.display_name === undefined ? undefined : parseDisplayName(input.display_name);
      const email = input.email === undefined ? undefined : parseEmail(input.email);
      const hasNewCredentials = input.password !== undefined || email !== undefined;
      if (hasNewCredentials && userId === caller.user.id) await auth.reauthenticate(caller, undefined);
      const passwordHash =
        input.password === undefined
          ? undefined
          : await hashNewPassword(caller, userId, input.password, email?.address);
      const update = async (sql: Sql) => {
        const currentRow = await lockForChange(
          sql,
          caller,
          userId,
          ({ role }) => (input.role ?? role) === "admin" && input.disabled !== true,
        );
        const wasDisabled = currentRow.disabled_at !== null;
        const { role = currentRow.role, disabled: isDisabled = wasDisabled } = input;
        const passwordReason = passwordHash === undefined ? null : ("password_changed" as const);
        const reason = isDisabled && !wasDisabled ? ("user_disabled" as const) : passwordReason;
        const endedSessionIds = reason ? await auth.endSessionsInTransaction(sql, userId, reason) : [];
        if (passwordHash !== undefined) {
          await users.storePasswordHash(sql, userId, passwordHash);
          await recordAudit(sql, caller, "user.password_changed", userId);
        }
        if (role !== currentRow.role) await recordAudit(sql, caller, "user.role_changed", userId, { role });
        if (isDisabled !== wasDisabled)
          await recordAudit(sql, caller, isDisabled ? "user.disabled" : "user.enabled", userId);
        const isRenamed = name !== undefined && name !== currentRow.display_name;
        if (isRenamed) await recordAudit(sql, caller, "user.changed", userId, { field: "display_name" });
        const isEmailChanged = email !== undefined && email.address !== currentRow.email;
        if (isEmailChanged) await recordAudit(sql, caller, "user.changed", userId, { field: "email" });
        const needsUpdate = role !== currentRow.role || isDisabled !== wasDisabled || isRenamed || isEmailChanged;
        const change = {
          role,
          isDisabled,
          ...(isRenamed && { display_name: name }),
          ...(isEmailChanged && { email }),
        };
        return {
          endedSessionIds,
          reason,
          row: needsUpdate ? await queries.updateAccount(sql, userId, change) : currentRow,
        };
      };
      const { row, endedSessionIds, reason } = await withTransaction(database, update, ACCOUNTS_QUEUE_KEY).catch(
        rethrowWithEmailTaken,
      );
      if (name !== undefined) onRenamed(userId);
      if (reason) auth.announceEndedSessions(endedSessionIds, reason);
      auth.forgetIdentities();
      return mapRowToUser(requireRow(row, "user"));
    },

    async remove(caller, userId) {
      if (userId === caller.user.id) await auth.reauthenticate(caller, undefined);
      await remove(caller, userId);
    },

    async removeOwnAccount(caller, password) {
      const hash = await auth.reauthenticate(caller, password);
      await remove(caller, caller.user.id, (sql) => users.lockUser(sql, caller.user.id, hash));
    },

    async endSessions(caller, userId) {
      requireAdminScopeFor(caller, requireRow(await queries.findAccount(database, userId), "user").role);
      await auth.endSessions(caller, userId);
    },

    async exportOwnData(caller) {
      const user = await users.getUser(caller.user.id);
      await recordAudit(database, caller, "user.exported", user.id);
      return streamExport(database, user, await users.getPreferences(user.id));
    },
  };
}

function rethrowWithEmailTaken(error: unknown): never {
  throw isUniqueViolation(error, "users_email_key") ? createEmailTakenError() : error;
}

/** Requires the scope `admin` to create, change or delete an administrator. @throws Problem `forbidden`. */
function requireAdminScopeFor({ scopes }: Caller, role: User["role"] | undefined): void {
  if (role === "admin") requireScope(scopes, "admin");
}
