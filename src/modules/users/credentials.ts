import type { Database, Sql } from "../../db/client.ts";
import { Problem } from "../../lib/problem.ts";
import type { Requester } from "../../limits/hash-queue.ts";
import { parseEmail } from "./email.ts";
import type { User } from "./model.ts";
import { type ChosenPassword, checkNewPassword, type Passwords } from "./passwords.ts";
import * as queries from "./queries.ts";

/** A user with the stored hash, so that later steps can check that the password hasn't changed. */
export type KnownUser = { user: User; passwordHash: string };
/** Called before a login is refused; `userId` is null if no account has the e-mail address. */
type OnRefused = (userId: string | null, reason: "credentials" | "disabled") => Promise<void>;

/** Checks and stores passwords. `requester` determines the position in the hashing queue. */
export interface Credentials {
  /**
   * Finds the user with this e-mail address and password. Unknown addresses and wrong passwords get the same response
   * after the same time. Only a caller who knows the password learns that the user is disabled.
   * @param onRefused called before the error of a refused login is thrown.
   * @throws Problem `invalid`, `invalid_credentials`, `forbidden` (disabled), `rate_limited`, `overloaded`.
   */
  checkCredentials(
    credentials: { email: string; password: string },
    requester: Requester,
    onRefused: OnRefused,
  ): Promise<KnownUser>;

  /**
   * Verifies the password of a logged-in user. A wrong one is `forbidden`, not a 401, because the request's credential
   * is valid.
   * @returns the stored hash. @throws Problem `forbidden`, `rate_limited`, `overloaded`.
   */
  checkPassword(userId: string, password: string, requester: Requester): Promise<string>;

  /** Finds a user by e-mail address; null if there is none. @throws Problem `invalid`. */
  findByEmail(email: string): Promise<User | null>;

  /** Whether a user can log in with a password. */
  hasPassword(sql: Sql, userId: string): Promise<boolean>;

  /**
   * Checks and hashes a new password.
   * @throws Problem `invalid` (length, or too easy to guess), `rate_limited`, `overloaded`.
   */
  hashPassword(chosen: ChosenPassword, requester: Requester): Promise<string>;

  /**
   * Locks the user against logins and changes until the transaction ends.
   * @param passwordHash the hash that `checkPassword` returned. @throws Problem `conflict` if the password has changed
   * since.
   */
  lockUser(sql: Sql, userId: string, passwordHash: string | undefined): Promise<void>;

  /** Stores a password hash. Call it in a transaction that has locked the user. */
  storePasswordHash(sql: Sql, userId: string, passwordHash: string): Promise<void>;
}

type Dependencies = { database: Database; passwords: Passwords };

export const createCredentials = ({ database, passwords }: Dependencies): Credentials => ({
  async checkCredentials({ email, password }, requester, onRefused) {
    const found = await queries.findCredentials(database, { emailKey: parseEmail(email).key });
    const isCorrect = await passwords.matches(password, found?.password_hash, requester);
    if (!isCorrect || !found?.password_hash) {
      await onRefused(found?.id ?? null, "credentials");
      throw new Problem("invalid_credentials", "The e-mail address or the password is wrong.");
    }
    if (found.disabled_at !== null) {
      await onRefused(found.id, "disabled");
      throw new Problem("forbidden", "This user is disabled. Ask an administrator.");
    }
    return { user: queries.mapRowToUser(found), passwordHash: found.password_hash };
  },

  async checkPassword(userId, password, requester) {
    const found = await queries.findCredentials(database, { id: userId });
    const isCorrect = await passwords.matches(password, found?.password_hash, requester);
    if (found?.password_hash === null)
      throw new Problem("forbidden", "This account has no password. Log in with the issuer.");
    if (!isCorrect || !found) throw new Problem("forbidden", "The password is wrong.");
    return found.password_hash;
  },

  async findByEmail(email) {
    const row = await queries.findByEmail(database, parseEmail(email).key);
    return row ? queries.mapRowToUser(row) : null;
  },

  async hasPassword(sql, userId) {
    return typeof (await queries.findCredentials(sql, { id: userId }))?.password_hash === "string";
  },

  async hashPassword(chosen, requester) {
    checkNewPassword(chosen);
    return passwords.hash(chosen.password, requester);
  },

  async lockUser(sql, userId, passwordHash) {
    if (await queries.lockUser(sql, userId, passwordHash)) return;
    throw new Problem("conflict", "The password was changed at the same time. Try again.");
  },

  storePasswordHash: queries.updatePasswordHash,
});
