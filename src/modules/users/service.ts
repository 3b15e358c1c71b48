import type { Caller } from "../../access/caller.ts";
import type { Config } from "../../config.ts";
import { type Database, isUniqueViolation, requireRow, type Sql, withTransaction } from "../../db/client.ts";
import { emitWebhookEvent } from "../../events/webhook-events.ts";
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

export type { KnownUser } from "./credentials.ts";
export { parseEmail } from "./email.ts";
export { createRequester, operator } from "./passwords.ts";
export { hasAdministrator, mapRowToUser, type UserRow } from "./queries.ts";

type ProfileColumns = Pick<ProfileChange, "display_name" | "email">;
type OnCreated = (sql: Sql, user: User) => Promise<void>;
type NewUser = { email: string; password: string; display_name?: string; role?: UserRole };

/** The error for a taken address. */
export const createTaken = (): Problem => new Problem("conflict", "A user with this e-mail address already exists.");

/** Users: profile, preferences and password (credentials.ts). Sessions are part of the auth module. */
export interface UserService extends Credentials {
  /**
   * The calling code checks whether registration is allowed.
   * @param onCreated runs in the transaction that stores the user.
   * @param hidesTaken whether a taken address must take as long as a free one.
   * @throws Problem `invalid`, `conflict` (the address is taken), `rate_limited`, `overloaded` (too many passwords wait to be
   * hashed).
   */
  createUser(input: NewUser, requester: Requester, onCreated: OnCreated, hidesTaken?: boolean): Promise<KnownUser>;

  /** The user that a registration with this input would create, without storing anything. @throws Problem `invalid`. */
  imagineUser(input: Pick<NewUser, "email" | "display_name">): User;

  /** For the command line: makes the user with this address an administrator; null if there is none. @throws Problem `invalid`. */
  promoteAdministrator(email: string): Promise<User | null>;

  /**
   * For the command line and the first start. An existing user with this address becomes an administrator and keeps their
   * password.
   * @throws Problem `invalid`.
   */
  createAdministrator(email: string, password: string): Promise<{ user: User; isNew: boolean }>;

  /**
   * Creates the configured administrator if no administrator can log in. An existing account with the address stays
   * unchanged: registering it first must not make anyone an administrator.
   * @returns the address, if its account is disabled or not an administrator. @throws Problem `invalid`.
   */
  ensureFirstAdministrator(config: Pick<Config, "ADMIN_EMAIL" | "ADMIN_PASSWORD">): Promise<string | null>;

  /**
   * Inside a transaction: creates a user who logs in with an issuer and has no password here.
   * @returns null if the address is taken. @throws Problem `invalid` (the address).
   */
  createPasswordless(sql: Sql, input: { email: string; name: string | null }): Promise<User | null>;

  /** @throws Problem `not_found`. */
  getUser(userId: string): Promise<User>;

  /** The name in its stored form. @throws Problem `invalid`. */
  parseDisplayName(input: string): string;

  /**
   * For the user themselves. Changing the address requires reauthentication, which the calling code has checked
   * (`AuthService.reauthenticate`).
   * @param passwordHash the verified one; the password must be unchanged. @throws Problem `invalid`, `conflict` (the address
   * is taken, or the password has changed), `not_found`.
   */
  changeProfile(caller: Caller, change: ProfileColumns, passwordHash: string | undefined): Promise<User>;

  /** @throws Problem `not_found`. */
  getPreferences(userId: string): Promise<Preferences>;

  /** Replaces all preferences of the user. @throws Problem `too_large`, `not_found`. */
  replacePreferences(userId: string, preferences: Preferences): Promise<Preferences>;
}

type Dependencies = {
  database: Database;
  passwords: Passwords;
  audit: AuditService;
  /** Called when a user's visible name changes; absent if nothing depends on it. */
  onRenamed?: (userId: string) => void;
};

export function createUserService({ database, passwords, audit, onRenamed = () => {} }: Dependencies): UserService {
  const credentials = createCredentials({ database, passwords });

  async function createUser(
    { email, password, display_name, role = "user" }: NewUser,
    requester: Requester,
    onCreated: OnCreated,
    hidesTaken = false,
  ): Promise<KnownUser> {
    const { shown, key } = parseEmail(email);
    const name = nameUser(display_name, shown);
    checkNewPassword({ password, email: shown });
    // Checked before the costly hash; the insert decides.
    if (!hidesTaken && (await queries.findCredentials(database, { emailKey: key }))) throw createTaken();
    const password_hash = await passwords.hash(password, requester);
    const user = { id: createId(), email: shown, email_key: key, display_name: name, role, password_hash };
    const insert = async (sql: Sql) => {
      const row = await queries.insertUser(sql, user);
      if (!row) throw createTaken();
      const created = queries.mapRowToUser(row);
      await emitUserCreated(sql, created);
      await onCreated(sql, created);
      return { user: created, passwordHash: password_hash };
    };
    return withTransaction(database, insert, `email:${key}`);
  }

  const nameUser = (name: string | undefined, email: string): string =>
    name === undefined ? createDisplayName(email) : parseDisplayName(name);

  const emitUserCreated = (sql: Sql, { id }: User): Promise<void> =>
    emitWebhookEvent(sql, { type: "user.created", userId: id, data: null });

  /** Records actions of the command line or the configuration, without an acting account. */
  function recordByOperator(sql: Sql, action: "user.created" | "user.role_changed", userId: string): Promise<void> {
    const target = { type: "user", id: userId } as const;
    const nobody = { actorId: null, credentialId: null, ipAddress: null };
    return audit.record(sql, { action, ...nobody, target, details: { role: "admin" } });
  }

  async function promoteAdministrator(email: string): Promise<User | null> {
    const { key } = parseEmail(email);
    const promote = async (sql: Sql) => {
      const row = await queries.promoteUser(sql, key);
      if (row?.is_raised) await recordByOperator(sql, "user.role_changed", row.id);
      return row;
    };
    const promoted = await withTransaction(database, promote, `email:${key}`);
    return promoted ? queries.mapRowToUser(promoted) : null;
  }

  async function createAdministrator(email: string, password: string): Promise<{ user: User; isNew: boolean }> {
    const raised = await promoteAdministrator(email);
    if (raised) return { user: raised, isNew: false };
    try {
      const { user } = await createUser({ email, password, role: "admin" }, operator, (sql, { id }) =>
        recordByOperator(sql, "user.created", id),
      );
      return { user, isNew: true };
    } catch (error) {
      // A concurrently starting instance was first.
      if (error instanceof Problem && error.code === "conflict") return createAdministrator(email, password);
      throw error;
    }
  }

  async function getUser(userId: string): Promise<User> {
    return queries.mapRowToUser(requireRow(await queries.findUser(database, userId), "user"));
  }

  return {
    ...credentials,
    createUser,

    imagineUser({ email, display_name }) {
      const { shown } = parseEmail(email);
      return {
        id: createId(),
        email: shown,
        display_name: nameUser(display_name, shown),
        role: "user",
        disabled: false,
        created_at: new Date().toISOString(),
      };
    },

    promoteAdministrator,
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
        // A concurrently starting instance or a registration was first.
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
      if (!row) return null;
      const created = queries.mapRowToUser(row);
      await emitUserCreated(sql, created);
      return created;
    },

    getUser,
    parseDisplayName,

    async changeProfile(caller, change, passwordHash) {
      const userId = caller.user.id;
      const email = change.email === undefined ? null : parseEmail(change.email);
      const columns = {
        ...(change.display_name !== undefined && { display_name: parseDisplayName(change.display_name) }),
        ...(email && { email: email.shown, email_key: email.key }),
      };
      if (Object.keys(columns).length === 0) return getUser(userId);
      const update = async (sql: Sql) => {
        if (passwordHash !== undefined) await credentials.lockUser(sql, userId, passwordHash);
        const row = requireRow(await queries.updateProfile(sql, userId, columns), "user");
        const { credentialId, ipAddress } = caller;
        const target = { type: "user", id: userId } as const;
        const entry = { action: "user.changed", actorId: userId, credentialId, target, ipAddress } as const;
        if (email) await audit.record(sql, { ...entry, details: { field: "email" } });
        return queries.mapRowToUser(row);
      };
      try {
        const user = await withTransaction(database, update, `user:${userId}`);
        if (change.display_name !== undefined) onRenamed(userId);
        return user;
      } catch (error) {
        if (isUniqueViolation(error, "users_email_key")) throw createTaken();
        throw error;
      }
    },

    async getPreferences(userId) {
      return requireRow(await queries.findPreferences(database, userId), "user");
    },

    async replacePreferences(userId, preferences) {
      if (Buffer.byteLength(JSON.stringify(preferences)) > PREFERENCES_BYTES_MAX)
        throw new Problem("too_large", `Preferences are limited to ${PREFERENCES_BYTES_MAX} bytes.`);
      const update = (sql: Sql) => queries.updatePreferences(sql, userId, preferences);
      requireRow((await withTransaction(database, update, `user:${userId}`)) || undefined, "user");
      return preferences;
    },
  };
}
