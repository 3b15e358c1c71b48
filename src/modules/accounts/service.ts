import type { Caller } from "../../access/caller.ts";
import { requireScope } from "../../access/scopes.ts";
import { type Database, requireRow, type Sql, withTransaction } from "../../db/client.ts";
import { Problem } from "../../lib/problem.ts";
import type { AuditAction, AuditEntry } from "../audit/model.ts";
import type { AuditService } from "../audit/service.ts";
import type { AuthService } from "../auth/service.ts";
import type { User } from "../users/model.ts";
import { createRequester, mapRowToUser, type UserRow, type UserService } from "../users/service.ts";
import type { Deletions } from "./deletion.ts";
import { createExport } from "./export.ts";
import type { UserChange, UserCreation } from "./model.ts";
import * as queries from "./queries.ts";

export { createDeletions } from "./deletion.ts";
export { streamText } from "./export.ts";

/** Changes of accounts wait for each other: each locks all administrators. */
const ADMINISTRATORS = "administrators";

/** The life of accounts across everything that belongs to them: administration, export, deletion. */
export interface AccountService {
  /** For administrators: newest first. */
  list(q: string | undefined, afterId: string | null, rows: number): Promise<UserRow[]>;

  /** For administrators. @throws Problem `not_found`. */
  get(userId: string): Promise<User>;

  /** For administrators. @throws Problem `invalid`, `conflict` (the address is taken), `forbidden`, `rate_limited`, `overloaded`. */
  create(caller: Caller, input: UserCreation): Promise<User>;

  /**
   * For administrators. A user who is disabled is logged out everywhere; a new role counts at once.
   * @throws Problem `not_found`, `invalid`, `conflict` (the last administrator), `forbidden`.
   */
  change(caller: Caller, userId: string, input: UserChange): Promise<User>;

  /**
   * For administrators: deletes the account with everything personal. What others share with the user stays, without a name.
   * @throws Problem `not_found`, `conflict` (the last administrator), `forbidden`.
   */
  remove(caller: Caller, userId: string): Promise<void>;

  /**
   * Deletes the caller's own account. A password that is given must be right.
   * @throws Problem `forbidden`, `conflict` (the last administrator), `rate_limited`, `overloaded`.
   */
  removeOwn(caller: Caller, password: string | undefined): Promise<void>;

  /** For administrators: logs a user out everywhere. @throws Problem `not_found`, `forbidden`. */
  endSessions(caller: Caller, userId: string): Promise<void>;

  /** All that is stored of the caller, as pieces of one JSON document. @throws Problem `not_found`. */
  exportOwn(caller: Caller): Promise<AsyncGenerator<string>>;
}

type Dependencies = {
  database: Database;
  users: UserService;
  auth: AuthService;
  audit: AuditService;
  deletions: Deletions;
};

export function createAccountService({ database, users, auth, audit, deletions }: Dependencies): AccountService {
  const { parseDisplayName } = users;

  /** Writes down what a caller did to a user. */
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
   * @param isKept whether the user is an administrator who can log in after it, too.
   * @param isOwn whether everybody may do this to themselves.
   * @throws Problem `not_found`, `conflict` (the last administrator), `forbidden` (the caller is none any more).
   */
  async function lock(
    sql: Sql,
    caller: Caller,
    userId: string,
    isKept: (row: UserRow) => boolean,
    isOwn = false,
  ): Promise<UserRow> {
    const locked = await queries.lockWithAdministrators(sql, userId);
    const target = requireRow(
      locked.find(({ id }) => id === userId),
      "user",
    );
    const administrators = locked.filter(({ role, disabled_at }) => role === "admin" && disabled_at === null);
    if (administrators.some(({ id }) => id === userId) && administrators.length === 1 && !isKept(target))
      throw new Problem("conflict", "This is the last administrator; make somebody else one first.");
    if (!isOwn) requireGrant(caller, target.role);
    if (!isOwn && !administrators.some(({ id }) => id === caller.user.id))
      throw new Problem("forbidden", "This needs an administrator.");
    return target;
  }

  /** @param checkOwn looks, under the lock, whether the caller may delete themselves; absent: only administrators may. */
  async function remove(caller: Caller, userId: string, checkOwn?: (sql: Sql) => Promise<void>): Promise<void> {
    const begin = async (sql: Sql) => {
      await lock(sql, caller, userId, () => false, checkOwn !== undefined);
      await checkOwn?.(sql);
      const ids = await auth.endUser(sql, userId, "user_deleted");
      await deletions.begin(sql, userId);
      await record(sql, caller, "user.deleted", userId);
      return ids;
    };
    const ended = await withTransaction(database, begin, ADMINISTRATORS);
    auth.announceEnd(ended, "user_deleted");
    auth.forgetIdentities();
    await deletions.complete(userId);
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
      const update = async (sql: Sql) => {
        const before = await lock(
          sql,
          caller,
          userId,
          ({ role }) => (input.role ?? role) === "admin" && input.disabled !== true,
        );
        const wasDisabled = before.disabled_at !== null;
        const { role = before.role, disabled: isDisabled = wasDisabled } = input;
        const ended = isDisabled && !wasDisabled ? await auth.endUser(sql, userId, "user_disabled") : [];
        if (role !== before.role) await record(sql, caller, "user.role_changed", userId, { role });
        if (isDisabled !== wasDisabled)
          await record(sql, caller, isDisabled ? "user.disabled" : "user.enabled", userId);
        const isRenamed = name !== undefined && name !== before.display_name;
        if (isRenamed) await record(sql, caller, "user.changed", userId, { field: "display_name" });
        const isChanged = role !== before.role || isDisabled !== wasDisabled || isRenamed;
        const columns = { role, isDisabled, ...(isRenamed && { display_name: name }) };
        return { ended, row: isChanged ? await queries.updateAccount(sql, userId, columns) : before };
      };
      const { row, ended } = await withTransaction(database, update, ADMINISTRATORS);
      auth.announceEnd(ended, "user_disabled");
      auth.forgetIdentities();
      return mapRowToUser(requireRow(row, "user"));
    },

    remove: (caller, userId) => remove(caller, userId),

    async removeOwn(caller, password) {
      const hash = password === undefined ? undefined : await auth.provePassword(caller, password);
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

/** What makes, changes or ends an administrator takes more of a key than to write users. @throws Problem `forbidden`. */
function requireGrant({ scopes }: Caller, role: User["role"] | undefined): void {
  if (role === "admin") requireScope(scopes, "admin");
}
