import type { Caller } from "../../access/caller.ts";
import { requireScope } from "../../access/scopes.ts";
import type { Config } from "../../config.ts";
import { type Database, isUniqueViolation, requireRow, type Sql, withTransaction } from "../../db/client.ts";
import { createId } from "../../lib/id.ts";
import { Problem } from "../../lib/problem.ts";
import type { Requester } from "../../limits/hash-queue.ts";
import type { AuditService } from "../audit/service.ts";
import { type Credentials, createCredentials, type KnownUser } from "./credentials.ts";
import { createDisplayName, fitDisplayName, parseDisplayName } from "./display-name.ts";
import { parseEmail } from "./email.ts";
import { PREFERENCES_BYTES_MAX, type Preferences, type ProfileChange, type User, type UserRole } from "./model.ts";
import { checkNewPassword, operator, type Passwords } from "./passwords.ts";
import * as queries from "./queries.ts";

export { parseEmail } from "./email.ts";
export { createRequester } from "./passwords.ts";
export { mapRowToUser, type UserRow } from "./queries.ts";

type OnCreated = (sql: Sql, user: User) => Promise<void>;
type NewUser = { email: string; password: string; display_name?: string; role?: UserRole };

/** People: their profile, preferences and password (credentials.ts). Who is logged in where is a matter of the auth module. */
export interface UserService extends Credentials {
  /**
   * The caller decides who may register.
   * @param onCreated runs in the transaction that stores the user.
   * @throws Problem `invalid`, `conflict` (the address is taken), `rate_limited`, `overloaded` (too many passwords wait to be
   * hashed).
   */
  createUser(input: NewUser, requester: Requester, onCreated: OnCreated): Promise<KnownUser>;

  /**
   * For the command line and the first start. A user who has this address is raised to administrator and keeps their
   * password.
   * @throws Problem `invalid`.
   */
  createAdministrator(email: string, password: string): Promise<{ user: User; isNew: boolean }>;

  /**
   * Creates the administrator that the configuration names, while there is none who can log in. An account that has the
   * address stays as it is: whoever registered it first must not become an administrator by it.
   * @returns the address, if an account has it that is no administrator, or is disabled. @throws Problem `invalid`.
   */
  ensureFirstAdministrator(config: Pick<Config, "ADMIN_EMAIL" | "ADMIN_PASSWORD">): Promise<string | null>;

  /**
   * Inside a transaction: creates a user who logs in by an issuer of identities and has no password here.
   * @returns null when the address is taken. @throws Problem `invalid` (the address).
   */
  createPasswordless(sql: Sql, input: { email: string; name: string | null }): Promise<User | null>;

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
    requester: Requester,
    onCreated: OnCreated,
  ): Promise<KnownUser> {
    const { shown, key } = parseEmail(email);
    const name = display_name === undefined ? createDisplayName(shown) : parseDisplayName(display_name);
    checkNewPassword(password);
    const taken = () => new Problem("conflict", "There is already a user with this e-mail address.");
    // Asked before the costly hash; the insert decides.
    if (await queries.findCredentials(database, { emailKey: key })) throw taken();
    const password_hash = await passwords.hash(password, requester);
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
      const { user } = await createUser({ email, password, role: "admin" }, operator, (sql, { id }) =>
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
    ...createCredentials({ database, passwords }),
    createUser,
    createAdministrator,

    async ensureFirstAdministrator({ ADMIN_EMAIL: email, ADMIN_PASSWORD: password }) {
      if (email === undefined || password === undefined) return null;
      const { key } = parseEmail(email);
      const findOther = async () => {
        const row = await queries.findByEmail(database, key);
        return { isThere: row !== undefined, other: row && !queries.isAdministrator(row) ? row.email : null };
      };
      const { isThere, other } = await findOther();
      if (isThere || (await queries.hasAdministrator(database))) return other;
      try {
        await createUser({ email, password, role: "admin" }, operator, (sql, { id }) =>
          recordByOperator(sql, "user.created", id),
        );
        return null;
      } catch (error) {
        // Several instances start at once, or somebody has registered meanwhile.
        if (error instanceof Problem && error.code === "conflict") return (await findOther()).other;
        throw error;
      }
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
