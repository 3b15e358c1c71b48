import type { Caller } from "../../access/caller.ts";
import type { Config } from "../../config.ts";
import { type Database, isUniqueViolation, requireRow, type Sql, withTransaction } from "../../db/client.ts";
import { emitWebhookEvent } from "../../events/webhook-events.ts";
import { createId } from "../../lib/id.ts";
import { Problem } from "../../lib/problem.ts";
import type { Requester } from "../../limits/hash-queue.ts";
import type { AuditService } from "../audit/service.ts";
import { type Credentials, createCredentials, type VerifiedUser } from "./credentials.ts";
import { createDisplayName, deriveDisplayName, parseDisplayName } from "./display-name.ts";
import { parseEmail } from "./email.ts";
import { PREFERENCES_BYTES_MAX, type Preferences, type ProfileChange, type User, type UserRole } from "./model.ts";
import { checkNewPassword, operatorRequester, type PasswordHasher } from "./passwords.ts";
import * as queries from "./queries.ts";

export type { VerifiedUser } from "./credentials.ts";
export { parseEmail } from "./email.ts";
export { createRequester, operatorRequester } from "./passwords.ts";
export { hasAdministrator, mapRowToUser, type UserRow } from "./queries.ts";

type ProfileInput = Pick<ProfileChange, "display_name" | "email">;
type OnCreated = (sql: Sql, user: User) => Promise<void>;
type NewUser = { email: string; password: string; display_name?: string; role?: UserRole };

/** Creates the error for a taken email address. */
export const createEmailTakenError = (): Problem =>
  new Problem("conflict", "A user with this email address already exists.");

/** Manages users' profiles, preferences and passwords (credentials.ts). The auth module manages sessions. */
export interface UserService extends Credentials {
  /**
   * Creates a user. Doesn't check whether registration is allowed.
   * @param onCreated runs in the transaction that stores the user.
   * @param mustHideTakenEmail whether the response for a taken email address must take as long as for an unused one, so that the
   * response time doesn't reveal accounts.
   * @throws Problem `invalid`, `conflict` (the email address is taken), `rate_limited`, `overloaded` (too many passwords are waiting
   * to be hashed).
   */
  createUser(
    input: NewUser,
    requester: Requester,
    onCreated: OnCreated,
    mustHideTakenEmail?: boolean,
  ): Promise<VerifiedUser>;

  /**
   * Returns the user that a registration with this input would create, without storing anything.
   * @throws Problem `invalid`.
   */
  previewUser(input: Pick<NewUser, "email" | "display_name">): User;

  /**
   * Makes the user with this email address an administrator. Returns null if there is no such user.
   * @throws Problem `invalid`.
   */
  promoteAdministrator(email: string): Promise<User | null>;

  /**
   * Creates an administrator. If a user with this email address exists, makes them an administrator and keeps their password.
   * @throws Problem `invalid`.
   */
  createAdministrator(email: string, password: string): Promise<{ user: User; isNew: boolean }>;

  /**
   * Creates the configured administrator if no administrator can log in. An existing account with that email address stays unchanged.
   * Otherwise, anyone who registered with the email address first would become an administrator.
   * @returns the email address if its account exists, but is disabled or not an administrator; otherwise null.
   * @throws Problem `invalid`.
   */
  ensureFirstAdministrator(config: Pick<Config, "ADMIN_EMAIL" | "ADMIN_PASSWORD">): Promise<string | null>;

  /**
   * Creates a user without a password, who can log in only through an OIDC provider. Call this in a transaction.
   * @returns null if the email address is taken.
   * @throws Problem `invalid`.
   */
  createPasswordlessUser(sql: Sql, input: { email: string; name: string | null }): Promise<User | null>;

  /** Returns a user. @throws Problem `not_found`. */
  getUser(userId: string): Promise<User>;

  /** Normalizes a display name. @throws Problem `invalid`. */
  parseDisplayName(input: string): string;

  /**
   * Changes the caller's profile. Before changing the email address, call `AuthService.reauthenticateForNewEmail`.
   * @param passwordHash the hash of the verified password.
   * @throws Problem `invalid`, `conflict` (the email address is taken, or the password has changed), `not_found`.
   */
  changeProfile(caller: Caller, change: ProfileInput, passwordHash: string | undefined): Promise<User>;

  /** Returns a user's preferences. @throws Problem `not_found`. */
  getPreferences(userId: string): Promise<Preferences>;

  /** Replaces all preferences of the user. @throws Problem `too_large`, `not_found`. */
  replacePreferences(userId: string, preferences: Preferences): Promise<Preferences>;
}

type Dependencies = {
  database: Database;
  passwords: PasswordHasher;
  audit: AuditService;
  /** Called when a user's display name has changed. */
  onRenamed?: (userId: string) => void;
};

export function createUserService({ database, passwords, audit, onRenamed = () => {} }: Dependencies): UserService {
  const credentials = createCredentials({ database, passwords });

  async function createUser(
    { email, password, display_name, role = "user" }: NewUser,
    requester: Requester,
    onCreated: OnCreated,
    mustHideTakenEmail = false,
  ): Promise<VerifiedUser> {
    const { address, key } = parseEmail(email);
    const name = chooseDisplayName(display_name, address);
    checkNewPassword({ password, email: address });
    // This check avoids hashing the password, which is expensive. The insert checks the email address again.
    if (!mustHideTakenEmail && (await queries.findCredentials(database, { emailKey: key })))
      throw createEmailTakenError();
    const password_hash = await passwords.hash(password, requester);
    const user = { id: createId(), email: address, email_key: key, display_name: name, role, password_hash };
    const insert = async (sql: Sql) => {
      const row = await queries.insertUser(sql, user);
      if (!row) throw createEmailTakenError();
      const createdUser = queries.mapRowToUser(row);
      await emitUserCreated(sql, createdUser);
      await onCreated(sql, createdUser);
      return { user: createdUser, passwordHash: password_hash };
    };
    return withTransaction(database, insert, `email:${key}`);
  }

  const chooseDisplayName = (name: string | undefined, email: string): string =>
    name === undefined ? createDisplayName(email) : parseDisplayName(name);

  const emitUserCreated = (sql: Sql, { id }: User): Promise<void> =>
    emitWebhookEvent(sql, { type: "user.created", userId: id, data: null });

  /** Records an action from the command line or the configuration. Such an action has no actor. */
  function recordOperatorAction(sql: Sql, action: "user.created" | "user.role_changed", userId: string): Promise<void> {
    const target = { type: "user", id: userId } as const;
    const noActor = { actorId: null, credentialId: null, ipAddress: null };
    return audit.record(sql, { action, ...noActor, target, details: { role: "admin" } });
  }

  async function promoteAdministrator(email: string): Promise<User | null> {
    const { key } = parseEmail(email);
    const promote = async (sql: Sql) => {
      const row = await queries.promoteUser(sql, key);
      if (row?.was_promoted) await recordOperatorAction(sql, "user.role_changed", row.id);
      return row;
    };
    const promotedUser = await withTransaction(database, promote, `email:${key}`);
    return promotedUser ? queries.mapRowToUser(promotedUser) : null;
  }

  async function createAdministrator(email: string, password: string): Promise<{ user: User; isNew: boolean }> {
    const promotedUser = await promoteAdministrator(email);
    if (promotedUser) return { user: promotedUser, isNew: false };
    try {
      const { user } = await createUser({ email, password, role: "admin" }, operatorRequester, (sql, { id }) =>
        recordOperatorAction(sql, "user.created", id),
      );
      return { user, isNew: true };
    } catch (error) {
      // Another process has created the user since the check.
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

    previewUser({ email, display_name }) {
      const { address } = parseEmail(email);
      return {
        id: createId(),
        email: address,
        display_name: chooseDisplayName(display_name, address),
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
      const findExistingAccount = async () => {
        const row = await queries.findByEmail(database, key);
        return { exists: row !== undefined, conflictingEmail: row && !queries.isAdministrator(row) ? row.email : null };
      };
      const { exists, conflictingEmail } = await findExistingAccount();
      if (exists || (await queries.hasAdministrator(database))) return conflictingEmail;
      try {
        await createUser({ email, password, role: "admin" }, operatorRequester, (sql, { id }) =>
          recordOperatorAction(sql, "user.created", id),
        );
        return null;
      } catch (error) {
        // Another instance or a registration has created the account since the check.
        if (error instanceof Problem && error.code === "conflict")
          return (await findExistingAccount()).conflictingEmail;
        throw error;
      }
    },

    async createPasswordlessUser(sql, { email, name }) {
      const { address, key } = parseEmail(email);
      const display_name = deriveDisplayName(name, address);
      const user = {
        id: createId(),
        email: address,
        email_key: key,
        display_name,
        role: "user",
        password_hash: null,
      } as const;
      const row = await queries.insertUser(sql, user);
      if (!row) return null;
      const createdUser = queries.mapRowToUser(row);
      await emitUserCreated(sql, createdUser);
      return createdUser;
    },

    getUser,
    parseDisplayName,

    async changeProfile(caller, change, passwordHash) {
      const userId = caller.user.id;
      const email = change.email === undefined ? null : parseEmail(change.email);
      const values = {
        ...(change.display_name !== undefined && { display_name: parseDisplayName(change.display_name) }),
        ...(email && { email: email.address, email_key: email.key }),
      };
      if (Object.keys(values).length === 0) return getUser(userId);
      const update = async (sql: Sql) => {
        if (passwordHash !== undefined) await credentials.lockUser(sql, userId, passwordHash);
        const row = requireRow(await queries.updateProfile(sql, userId, values), "user");
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
        if (isUniqueViolation(error, "users_email_key")) throw createEmailTakenError();
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
