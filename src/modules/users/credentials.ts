import type { Database, Sql } from "../../db/client.ts";
import { Problem } from "../../lib/problem.ts";
import type { Requester } from "../../limits/hash-queue.ts";
import { parseEmail } from "./email.ts";
import type { User } from "./model.ts";
import { type ChosenPassword, checkNewPassword, type PasswordHasher } from "./passwords.ts";
import * as queries from "./queries.ts";

/** A user with the stored hash, which later steps use to check that the password hasn't changed. */
export type VerifiedUser = { user: User; passwordHash: string };
/** Called before a login is rejected. `userId` is null if no account has the email address. */
type OnRejected = (userId: string | null, reason: "credentials" | "disabled") => Promise<void>;

/** Checks and stores passwords. `requester` determines the priority in the hash queue. */
export interface Credentials {
  /**
   * Finds the user with this email address and password. An unknown email address and a wrong password cause the same response,
   * and take equally long. The response reveals that the user is disabled only if the password is correct.
   * @param onRejected called before the error of a rejected login is thrown.
   * @throws Problem `invalid`, `invalid_credentials`, `forbidden` (disabled), `rate_limited`, `overloaded`.
   */
  checkCredentials(
    credentials: { email: string; password: string },
    requester: Requester,
    onRejected: OnRejected,
  ): Promise<VerifiedUser>;

  /**
   * Verifies the password of a logged-in user. A wrong password is `forbidden` instead of `unauthorized`, because the request's
   * credential is valid.
   * @returns the stored hash.
   * @throws Problem `forbidden`, `rate_limited`, `overloaded`.
   */
  checkPassword(userId: string, password: string, requester: Requester): Promise<string>;

  /** Finds a user by email address. Returns null if there is none. @throws Problem `invalid`. */
  findByEmail(email: string): Promise<User | null>;

  /** Returns whether a user can log in with a password. */
  hasPassword(sql: Sql, userId: string): Promise<boolean>;

  /**
   * Checks and hashes a new password.
   * @throws Problem `invalid` (length, or too easy to guess), `rate_limited`, `overloaded`.
   */
  hashPassword(newPassword: ChosenPassword, requester: Requester): Promise<string>;

  /**
   * Prevents the user from logging in or being changed until the transaction ends.
   * @param passwordHash the hash that `checkPassword` returned.
   * @throws Problem `conflict` if the password has changed since then.
   */
  lockUser(sql: Sql, userId: string, passwordHash: string | undefined): Promise<void>;

  /** Stores a password hash. The transaction must have locked the user. */
  storePasswordHash(sql: Sql, userId: string, passwordHash: string): Promise<void>;
}

type Dependencies = { database: Database; passwords: PasswordHasher };

export const createCredentials = ({ database, passwords }: Dependencies): Credentials => ({
  async checkCredentials({ email, password }, requester, onRejected) {
    const row = await queries.findCredentials(database, { emailKey: parseEmail(email).key });
    const isCorrect = await passwords.matches(password, row?.password_hash, requester);
    if (!isCorrect || !row?.password_hash) {
      await onRejected(row?.id ?? null, "credentials");
      throw new Problem("invalid_credentials", "The email address or the password is incorrect.");
    }
    if (row.disabled_at !== null) {
      await onRejected(row.id, "disabled");
      throw new Problem("forbidden", "This user is disabled. Ask an administrator.");
    }
    return { user: queries.mapRowToUser(row), passwordHash: row.password_hash };
  },

  async checkPassword(userId, password, requester) {
    const row = await queries.findCredentials(database, { id: userId });
    const isCorrect = await passwords.matches(password, row?.password_hash, requester);
    if (row?.password_hash === null)
      throw new Problem("forbidden", "This account has no password. Log in with the issuer.");
    if (!isCorrect || !row) throw new Problem("forbidden", "The password is incorrect.");
    return row.password_hash;
  },

  async findByEmail(email) {
    const row = await queries.findByEmail(database, parseEmail(email).key);
    return row ? queries.mapRowToUser(row) : null;
  },

  async hasPassword(sql, userId) {
    return typeof (await queries.findCredentials(sql, { id: userId }))?.password_hash === "string";
  },

  async hashPassword(newPassword, requester) {
    checkNewPassword(newPassword);
    return passwords.hash(newPassword.password, requester);
  },

  async lockUser(sql, userId, passwordHash) {
    if (await queries.lockUser(sql, userId, passwordHash)) return;
    throw new Problem("conflict", "The password was changed at the same time. Try again.");
  },

  storePasswordHash: queries.updatePasswordHash,
});
