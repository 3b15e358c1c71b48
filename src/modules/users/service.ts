import type { Caller } from "../../access/caller.ts";
import { requireScope } from "../../access/scopes.ts";
import { type Database, isUniqueViolation, requireRow, type Sql, withTransaction } from "../../db/client.ts";
import { createId } from "../../lib/id.ts";
import { createInvalid, Problem } from "../../lib/problem.ts";
import type { AuditService } from "../audit/service.ts";
import { createDisplayName, fitDisplayName, parseDisplayName } from "./display-name.ts";
import { parseEmail } from "./email.ts";
import { PREFERENCES_BYTES_MAX, type Preferences, type ProfileChange, type User, type UserRole } from "./model.ts";
import { PASSWORD_CHARS_MAX, PASSWORD_CHARS_MIN, type Passwords } from "./passwords.ts";
import * as queries from "./queries.ts";

export { parseEmail } from "./email.ts";
export { mapRowToUser, type UserRow } from "./queries.ts";

type NewUser = { email: string; password: string; display_name?: string; role?: UserRole };
/** With the stored hash, so that what follows can make sure that the password is still this one. */
type KnownUser = { user: User; passwordHash: string };
/** A login is about to be refused. */
type OnRefused = (userId: string | null, reason: "credentials" | "disabled") => Promise<void>;
type UserServiceDependencies = { database: Database; passwords: Passwords; audit: AuditService };

/** People: their profile, preferences and password. Who is logged in where is a matter of the auth module. */
export function createUserService({ database, passwords, audit }: UserServiceDependencies) {
  /**
   * Whoever calls decides who may register.
   * @param onCreated runs in the transaction that stores the user.
   * @throws Problem `invalid`, `conflict` (the address is taken), `unavailable` (too many passwords being hashed).
   */
  async function createUser(
    { email, password, display_name, role = "user" }: NewUser,
    onCreated: (sql: Sql, user: User) => Promise<void>,
  ): Promise<KnownUser> {
    const { shown, key } = parseEmail(email);
    const name = display_name === undefined ? createDisplayName(shown) : parseDisplayName(display_name);
    checkNewPassword(password);
    const taken = () => new Problem("conflict", "There is already a user with this e-mail address.");
    // Asked before the costly hash; the insert decides.
    if (await queries.findCredentials(database, { emailKey: key })) throw taken();
    const password_hash = await passwords.hash(password);
    const user = { id: createId(), email: shown, email_key: key, display_name: name, role, password_hash };
    const insert = async (sql: Sql) => {
      const row = await queries.insertUser(sql, user);
      if (!row) throw taken();
      const created = queries.mapRowToUser(row);
      await onCreated(sql, created);
      return { user: created, passwordHash: password_hash };
    };
    return withTransaction(database, insert, `email:${key}`);
  }

  /** What the command line or the configuration did: nobody's account stands behind it. */
  function recordByOperator(sql: Sql, action: "user.created" | "user.role_changed", userId: string): Promise<void> {
    const target = { type: "user", id: userId } as const;
    const nobody = { actorId: null, credentialId: null, ipAddress: null };
    return audit.record(sql, { action, ...nobody, target, details: { role: "admin" } });
  }

  /**
   * For the command line and the first start. Somebody who has this address is raised to administrator and keeps
   * their password.
   * @throws Problem `invalid`.
   */
  async function createAdministrator(email: string, password: string): Promise<{ user: User; isNew: boolean }> {
    const { key } = parseEmail(email);
    const raise = async (sql: Sql) => {
      const row = await queries.raiseUser(sql, key);
      if (row?.is_raised) await recordByOperator(sql, "user.role_changed", row.id);
      return row;
    };
    const raised = await withTransaction(database, raise, `email:${key}`);
    if (raised) return { user: queries.mapRowToUser(raised), isNew: false };
    try {
      const { user } = await createUser({ email, password, role: "admin" }, (sql, { id }) =>
        recordByOperator(sql, "user.created", id),
      );
      return { user, isNew: true };
    } catch (error) {
      // Several instances start at once: another one was first.
      if (error instanceof Problem && error.code === "conflict") return createAdministrator(email, password);
      throw error;
    }
  }

  /** @throws Problem `not_found`. */
  async function getUser(userId: string): Promise<User> {
    return queries.mapRowToUser(requireRow(await queries.findUser(database, userId), "user"));
  }

  return {
    createUser,
    createAdministrator,

    /** Creates or raises the administrator that the configuration names, if it does. @throws Problem `invalid`. */
    async ensureFirstAdministrator(config: { ADMIN_EMAIL?: string; ADMIN_PASSWORD?: string }): Promise<void> {
      if (config.ADMIN_EMAIL === undefined || config.ADMIN_PASSWORD === undefined) return;
      await createAdministrator(config.ADMIN_EMAIL, config.ADMIN_PASSWORD);
    },

    /**
     * Who this address and password belong to; the same answer, after the same time, for an unknown address and a
     * wrong password. That the user is disabled is told only to whoever knows the password.
     * @param onRefused is told of each refusal, before it is answered; null: nobody has this address.
     * @throws Problem `invalid`, `invalid_credentials`, `forbidden`, `unavailable`.
     */
    async checkCredentials(email: string, password: string, onRefused: OnRefused): Promise<KnownUser> {
      const found = await queries.findCredentials(database, { emailKey: parseEmail(email).key });
      const isRight = await passwords.matches(password, found?.password_hash);
      if (!isRight || !found?.password_hash) {
        await onRefused(found?.id ?? null, "credentials");
        throw new Problem("invalid_credentials", "The e-mail address or the password is wrong.");
      }
      if (found.disabled_at !== null) {
        await onRefused(found.id, "disabled");
        throw new Problem("forbidden", "This user is disabled. Ask an administrator.");
      }
      return { user: queries.mapRowToUser(found), passwordHash: found.password_hash };
    },

    /**
     * Makes sure that a logged-in user knows their password. Not a 401: the credential of the request is good.
     * @returns the stored hash. @throws Problem `forbidden`, `unavailable`.
     */
    async checkPassword(userId: string, password: string): Promise<string> {
      const found = await queries.findCredentials(database, { id: userId });
      const isRight = await passwords.matches(password, found?.password_hash);
      if (found?.password_hash === null)
        throw new Problem("forbidden", "This account has no password; it logs in by its issuer.");
      if (!isRight || !found) throw new Problem("forbidden", "The password is wrong.");
      return found.password_hash;
    },

    /**
     * Inside a transaction: a user who logs in by an issuer of identities, and has no password here.
     * @returns null when the address is taken. @throws Problem `invalid` (the address).
     */
    async createPasswordless(sql: Sql, { email, name }: { email: string; name: string | null }): Promise<User | null> {
      const { shown, key } = parseEmail(email);
      const display_name = fitDisplayName(name, shown);
      const user = {
        id: createId(),
        email: shown,
        email_key: key,
        display_name,
        role: "user",
        password_hash: null,
      } as const;
      const row = await queries.insertUser(sql, user);
      return row ? queries.mapRowToUser(row) : null;
    },

    /** Whether a user could log in by a password. */
    async hasPassword(sql: Sql, userId: string): Promise<boolean> {
      return typeof (await queries.findCredentials(sql, { id: userId }))?.password_hash === "string";
    },

    /** @throws Problem `invalid` (length), `unavailable`. */
    hashPassword(password: string): Promise<string> {
      checkNewPassword(password);
      return passwords.hash(password);
    },

    /**
     * Inside a transaction: from here on nobody logs in or changes this user until it ends.
     * @param passwordHash what `checkPassword` gave. @throws Problem `conflict` when the password has changed since.
     */
    async lockUser(sql: Sql, userId: string, passwordHash: string | undefined): Promise<void> {
      if (await queries.lockUser(sql, userId, passwordHash)) return;
      throw new Problem("conflict", "The password was changed at the same moment. Try again.");
    },

    /** Inside a transaction that has locked the user. */
    storePasswordHash: queries.updatePasswordHash,

    getUser,
    parseDisplayName,

    /** The user's own profile. @throws Problem `invalid`, `conflict` (the address is taken), `not_found`. */
    async changeProfile(caller: Caller, change: ProfileChange): Promise<User> {
      const userId = caller.user.id;
      // The address is half of a login: no key may take it away from its owner.
      if (change.email !== undefined) requireScope(caller.scopes, "session");
      const email = change.email === undefined ? null : parseEmail(change.email);
      const columns = {
        ...(change.display_name !== undefined && { display_name: parseDisplayName(change.display_name) }),
        ...(email && { email: email.shown, email_key: email.key }),
      };
      if (Object.keys(columns).length === 0) return getUser(userId);
      const update = async (sql: Sql) => {
        const row = requireRow(await queries.updateProfile(sql, userId, columns), "user");
        const { credentialId, ipAddress } = caller;
        const target = { type: "user", id: userId } as const;
        const entry = { action: "user.changed", actorId: userId, credentialId, target, ipAddress } as const;
        if (email) await audit.record(sql, { ...entry, details: { field: "email" } });
        return queries.mapRowToUser(row);
      };
      try {
        return await withTransaction(database, update, `user:${userId}`);
      } catch (error) {
        if (isUniqueViolation(error, "users_email_key"))
          throw new Problem("conflict", "There is already a user with this e-mail address.");
        throw error;
      }
    },

    /** @throws Problem `not_found`. */
    async getPreferences(userId: string): Promise<Preferences> {
      return requireRow(await queries.findPreferences(database, userId), "user");
    },

    /** Replaces all preferences of the user. @throws Problem `too_large`, `not_found`. */
    async replacePreferences(userId: string, preferences: Preferences): Promise<Preferences> {
      if (Buffer.byteLength(JSON.stringify(preferences)) > PREFERENCES_BYTES_MAX)
        throw new Problem("too_large", `Preferences may have ${PREFERENCES_BYTES_MAX} bytes.`);
      const update = (sql: Sql) => queries.updatePreferences(sql, userId, preferences);
      requireRow((await withTransaction(database, update, `user:${userId}`)) || undefined, "user");
      return preferences;
    },
  };
}

export type UserService = ReturnType<typeof createUserService>;

/** Requests are checked by their schema; the command line and the configuration come without one. */
function checkNewPassword(password: string): void {
  if (password.length >= PASSWORD_CHARS_MIN && password.length <= PASSWORD_CHARS_MAX) return;
  throw createInvalid("#/password", `password must have ${PASSWORD_CHARS_MIN} to ${PASSWORD_CHARS_MAX} characters.`);
}
