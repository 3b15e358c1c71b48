import { availableParallelism } from "node:os";
import { Type } from "@sinclair/typebox";
import type { Caller } from "../../access/caller.ts";
import { createInvalidProblem, type Problem } from "../../lib/problem.ts";
import { findPasswordWeakness } from "../../lib/weak-passwords.ts";
import { createHashQueue, type Requester } from "../../limits/hash-queue.ts";

/** Minimum length in characters. An emoji counts as one character, although it has two UTF-16 code units. */
const PASSWORD_CHARS_MIN = 8;
/** Maximum length in UTF-16 code units, which limits the work of hashing. */
const PASSWORD_CHARS_MAX = 128;

/** OWASP recommends 19 MiB and two iterations for argon2id. Hashing takes about 50 ms on one core. */
const MEMORY_KIB = 19_456;
const ITERATIONS = 2;
/** Maximum concurrent hashes. One core is left for the event loop. */
const CONCURRENT_HASHES_MAX = Math.min(4, Math.max(1, availableParallelism() - 1));

export const NewPassword = Type.String({
  minLength: PASSWORD_CHARS_MIN,
  maxLength: PASSWORD_CHARS_MAX,
  format: "text",
  description: `${PASSWORD_CHARS_MIN} to ${PASSWORD_CHARS_MAX} characters. Must not be one of the 10,000 most common passwords, or the user's own email (case-insensitive).`,
});

/** An existing password that a user enters to prove their identity. */
export const CurrentPassword = Type.String({ minLength: 1, maxLength: PASSWORD_CHARS_MAX, format: "text" });

export type PasswordOptions = { memoryKib?: number; iterations?: number; parallelMax?: number };

/** Creates the requester for a logged-in user. */
export const createRequester = ({ user, ipAddress }: Pick<Caller, "user" | "ipAddress">): Requester => ({
  ipAddress,
  account: `user:${user.id}`,
  knownBy: "account",
});

/** The requester for operations that come from the command line or the configuration. */
export const operatorRequester: Requester = { ipAddress: null, account: "operator", knownBy: "account" };

/** Hashes and verifies passwords with argon2id, a few at a time, in other threads. `HashQueue` determines the order. */
export interface PasswordHasher {
  /**
   * Hashes a password with a random salt. Returns a PHC string.
   * @throws Problem `rate_limited`, `overloaded` if too many requests are waiting.
   */
  hash(password: string, requester: Requester): Promise<string>;
  /**
   * Returns whether the password matches the hash. If there is no hash, returns false after the same time.
   * @throws Problem `rate_limited`, `overloaded` if too many requests are waiting.
   */
  matches(password: string, hash: string | null | undefined, requester: Requester): Promise<boolean>;
}

/** Creates the password hasher. @param onRejected called when a request is rejected because too many requests are waiting. */
export function createPasswordHasher(options: PasswordOptions = {}, onRejected: () => void = () => {}): PasswordHasher {
  const { memoryKib = MEMORY_KIB, iterations = ITERATIONS, parallelMax = CONCURRENT_HASHES_MAX } = options;
  const queue = createHashQueue({ parallelMax, onRejected });
  /** A valid hash that no password matches. Verifying a password against it takes as long as against a real hash. */
  const dummyHash = `$argon2id$v=19$m=${memoryKib},t=${iterations},p=1$${randomBase64()}$${randomBase64()}`;

  return {
    hash(password, requester) {
      const cost = { algorithm: "argon2id", memoryCost: memoryKib, timeCost: iterations } as const;
      return queue.run(requester, () => Bun.password.hash(normalize(password), cost));
    },

    async matches(password, hash, requester) {
      const verify = () => Bun.password.verify(normalize(password), hash ?? dummyHash);
      const isCorrect = await queue.run(requester, verify);
      return isCorrect && typeof hash === "string";
    },
  };
}

/** A new password, with the user's email address and the request field that contains the password. */
export type ChosenPassword = { password: string; email: string; field?: "password" | "new_password" };

/**
 * Checks a new password. Logins don't call this, so existing passwords keep working.
 * @throws Problem `invalid` if the password has the wrong length, is too common, or is the user's email address.
 */
export function checkNewPassword({ password, email, field = "password" }: ChosenPassword): void {
  const createError = (predicate: string): Problem => createInvalidProblem(`#/${field}`, `${field} ${predicate}`);
  // Passwords from the command line and the configuration have not been checked against the schema.
  if (isTooShort(password) || password.length > PASSWORD_CHARS_MAX)
    throw createError(`must have ${PASSWORD_CHARS_MIN} to ${PASSWORD_CHARS_MAX} characters.`);
  const weakness = findPasswordWeakness(password, email);
  if (weakness === "common") throw createError("is one of the most common passwords. Choose another one.");
  if (weakness === "address") throw createError("must not be the email address. Choose another one.");
}

/** Returns whether a password has too few characters. The schema counts UTF-16 code units, so it would accept four emoji. */
const isTooShort = (password: string): boolean => [...password].length < PASSWORD_CHARS_MIN;

/** Normalizes a password, so that the same characters entered on different keyboards match (RFC 8265). */
function normalize(password: string): string {
  return password.normalize("NFC");
}

function randomBase64(): string {
  return Buffer.from(crypto.getRandomValues(new Uint8Array(32)))
    .toString("base64")
    .replace(/=+$/, "");
}
