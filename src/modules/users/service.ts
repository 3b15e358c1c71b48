import type { Caller } from "../../access/caller.ts";
import { requireScope } from "../../access/scopes.ts";
import type { Config } from "../../config.ts";
import { type Database, isUniqueViolation, requireRow, type Sql, withTransaction } from "../../db/client.ts";
import { createId } from "../../lib/id.ts";
import { Problem } from "../../lib/problem.ts";
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

/** People: their profile, preferences and password. Who is logged in where is a matter of the auth module. */
export interface UserService {
  /**
   * The caller decides who may register.
   * @param onCreated runs in the transaction that stores the user.
   * @throws Problem `invalid`, `conflict` (the address is taken), `unavailable` (too many passwords are being hashed).
   */
  createUser(input: NewUser, onCreated: (sql: Sql, user: User) => Promise<void>): Promise<KnownUser>;

  /**
   * For the command line and the first start. A user who has this address is raised to administrator and keeps their
   * password.
   * @throws Problem `invalid`.
   */
  createAdministrator(email: string, password: string): Promise<{ user: User; isNew: boolean }>;

  /** Creates or raises the administrator that the configuration names, if it does. @throws Problem `invalid`. */
  ensureFirstAdministrator(config: Pick<Config, "ADMIN_EMAIL" | "ADMIN_PASSWORD">): Promise<void>;

  /**
   * The user with this address and password. An unknown address and a wrong password get the same answer, after the same
   * time. Only a caller who knows the password is told that the user is disabled.
   * @param onRefused is told of each refusal before it is thrown; null: nobody has this address.
   * @throws Problem `invalid`, `invalid_credentials`, `forbidden` (disabled), `unavailable`.
   */
  checkCredentials(email: string, password: string, onRefused: OnRefused): Promise<KnownUser>;

  /**
   * Makes sure that a logged-in user knows their password. Not a 401: the credential of the request is valid.
   * @returns the stored hash. @throws Problem `forbidden`, `unavailable`.
   */
  checkPassword(userId: string, password: string): Promise<string>;

  /**
   * Inside a transaction: creates a user who logs in by an issuer of identities and has no password here.
   * @returns null when the address is taken. @throws Problem `invalid` (the address).
   */
  createPasswordless(sql: Sql, input: { email: string; name: string | null }): Promise<User | null>;

  /** Whether a user can log in by a password. */
  hasPassword(sql: Sql, userId: string): Promise<boolean>;

  /** @throws Problem `invalid` (length), `unavailable`. */
  hashPassword(password: string): Promise<string>;

  /**
   * Inside a transaction: until it ends, nobody logs in as this user or changes them.
   * @param passwordHash the one that `checkPassword` returned. @throws Problem `conflict` when the password has changed since.
   */
  lockUser(sql: Sql, userId: string, passwordHash: string | undefined): Promise<void>;

  /** Inside a transaction that has locked the user. */
  storePasswordHash(sql: Sql, userId: string, passwordHash: string): Promise<void>;

  /** @throws Problem `not_found`. */
  getUser(userId: string): Promise<User>;

  /** The name as it is stored. @throws Problem `invalid`. */
  parseDisplayName(input: string): string;

  /** For the user themselves. @throws Problem `invalid`, `conflict` (the address is taken), `forbidden`, `not_found`. */
  changeProfile(caller: Caller, change: ProfileChange): Promise<User>;

  /** @throws Problem `not_found`. */
  getPreferences(userId: string): Promise<Preferences>;

  /** Replaces all preferences of the user. @throws Problem `too_large`, `not_found`. */
  replacePreferences(userId: string, preferences: Preferences): Promise<Preferences>;
}

type Dependencies = { database: Database; passwords: Passwords; audit: AuditService };

export function createUserService({ database, passwords, audit }: Dependencies): UserService {
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

  async function getUser(userId: string): Promise<User> {
    return queries.mapRowToUser(requireRow(await queries.findUser(database, userId), "user"));
  }

  return {
    createUser,
    createAdministrator,

    async ensureFirstAdministrator(config) {
      if (config.ADMIN_EMAIL === undefined || config.ADMIN_PASSWORD === undefined) return;
      await createAdministrator(config.ADMIN_EMAIL, config.ADMIN_PASSWORD);
    },

    async checkCredentials(email, password, onRefused) {
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

    async checkPassword(userId, password) {
      const found = await queries.findCredentials(database, { id: userId });
      const isRight = await passwords.matches(password, found?.password_hash);
      if (found?.password_hash === null)
        throw new Problem("forbidden", "This account has no password; it logs in by its issuer.");
      if (!isRight || !found) throw new Problem("forbidden", "The password is wrong.");
      return found.password_hash;
    },

    async createPasswordless(sql, { email, name }) {
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

    async hasPassword(sql, userId) {
      return typeof (await queries.findCredentials(sql, { id: userId }))?.password_hash === "string";
    },

    async hashPassword(password) {
      checkNewPassword(password);
      return passwords.hash(password);
    },

    async lockUser(sql, userId, passwordHash) {
      if (await queries.lockUser(sql, userId, passwordHash)) return;
      throw new Problem("conflict", "The password was changed at the same moment. Try again.");
    },

    storePasswordHash: queries.updatePasswordHash,

    getUser,
    parseDisplayName,

    async changeProfile(caller, change) {
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

    async getPreferences(userId) {
      return requireRow(await queries.findPreferences(database, userId), "user");
    },

    async replacePreferences(userId, preferences) {
      if (Buffer.byteLength(JSON.stringify(preferences)) > PREFERENCES_BYTES_MAX)
        throw new Problem("too_large", `Preferences may have ${PREFERENCES_BYTES_MAX} bytes.`);
      const update = (sql: Sql) => queries.updatePreferences(sql, userId, preferences);
      requireRow((await withTransaction(database, update, `user:${userId}`)) || undefined, "user");
      return preferences;
    },
  };
}

/** Requests are checked by their schema; the command line and the configuration come without one. */
function checkNewPassword(password: string): void {
  if (password.length >= PASSWORD_CHARS_MIN && password.length <= PASSWORD_CHARS_MAX) return;
  const detail = `Expected ${PASSWORD_CHARS_MIN} to ${PASSWORD_CHARS_MAX} characters.`;
  throw new Problem("invalid", `#/password: ${detail}`, { errors: [{ pointer: "#/password", detail }] });
}
