import { availableParallelism } from "node:os";
import { Type } from "@sinclair/typebox";
import type { Caller } from "../../access/caller.ts";
import { createInvalid, type Problem } from "../../lib/problem.ts";
import { findWeakness } from "../../lib/weak-passwords.ts";
import { createHashQueue, type Requester } from "../../limits/hash-queue.ts";

/** Minimum length in characters. An emoji counts as one, although it has two UTF-16 units. */
const PASSWORD_CHARS_MIN = 8;
/** Maximum length in UTF-16 units. It limits the hashing work per request. */
const PASSWORD_CHARS_MAX = 128;

/** OWASP's recommendation for argon2id: 19 MiB and two iterations, about 50 ms on one core. */
const MEMORY_KIB = 19_456;
const ITERATIONS = 2;
/** Maximum concurrent hashes. One core is left for the event loop. */
const CONCURRENT_HASHES_MAX = Math.min(4, Math.max(1, availableParallelism() - 1));

export const NewPassword = Type.String({
  minLength: PASSWORD_CHARS_MIN,
  maxLength: PASSWORD_CHARS_MAX,
  format: "text",
  description: `${PASSWORD_CHARS_MIN} to ${PASSWORD_CHARS_MAX} characters. Not one of the 10,000 most common passwords or the user's own address, in any case.`,
});

/** An existing password, entered to prove the user's identity. */
export const CurrentPassword = Type.String({ minLength: 1, maxLength: PASSWORD_CHARS_MAX, format: "text" });

export type PasswordOptions = { memoryKib?: number; passes?: number; parallelMax?: number };

/** Creates the requester of a logged-in user. */
export const createRequester = ({ user, ipAddress }: Pick<Caller, "user" | "ipAddress">): Requester => ({
  ipAddress,
  account: `user:${user.id}`,
  knownBy: "account",
});

/** The requester of operations by the command line or the configuration. */
export const operator: Requester = { ipAddress: null, account: "operator", knownBy: "account" };

/** Hashes and verifies passwords with argon2id off the event loop, a few at a time, in the order of `HashQueue`. */
export interface Passwords {
  /**
   * Hashes a password.
   * @returns a PHC string, with a random salt.
   * @throws Problem `rate_limited`, `overloaded` if too many are waiting.
   */
  hash(password: string, requester: Requester): Promise<string>;
  /**
   * Checks whether the password matches the hash. Without a hash, resolves to false after the same time.
   * @throws Problem `rate_limited`, `overloaded` if too many are waiting.
   */
  matches(password: string, hash: string | null | undefined, requester: Requester): Promise<boolean>;
}

/** @param onRefused called each time a hash is refused because too many are waiting. */
export function createPasswords(options: PasswordOptions = {}, onRefused: () => void = () => {}): Passwords {
  const { memoryKib = MEMORY_KIB, passes = ITERATIONS, parallelMax = CONCURRENT_HASHES_MAX } = options;
  const queue = createHashQueue({ parallelMax, onRefused });
  /** A well-formed hash that no password matches. Verifying against it takes as long as against a real one. */
  const dummyHash = `$argon2id$v=19$m=${memoryKib},t=${passes},p=1$${randomBase64()}$${randomBase64()}`;

  return {
    hash(password, requester) {
      const cost = { algorithm: "argon2id", memoryCost: memoryKib, timeCost: passes } as const;
      return queue.run(requester, () => Bun.password.hash(normalize(password), cost));
    },

    async matches(password, hash, requester) {
      const verify = () => Bun.password.verify(normalize(password), hash ?? dummyHash);
      const isCorrect = await queue.run(requester, verify);
      return isCorrect && typeof hash === "string";
    },
  };
}

/** A new password, with its user's e-mail address and the input field it comes from. */
export type ChosenPassword = { password: string; email: string; field?: "password" | "new_password" };

/**
 * Checks a new password. Not called for logins, so existing passwords keep working.
 * @throws Problem `invalid` if it has the wrong length, is too common, or is the user's e-mail address.
 */
export function checkNewPassword({ password, email, field = "password" }: ChosenPassword): void {
  const createError = (predicate: string): Problem => createInvalid(`#/${field}`, `${field} ${predicate}`);
  // Needed for the command line and the configuration, which have no schema.
  if (isTooShort(password) || password.length > PASSWORD_CHARS_MAX)
    throw createError(`must have ${PASSWORD_CHARS_MIN} to ${PASSWORD_CHARS_MAX} characters.`);
  const weakness = findWeakness(password, email);
  if (weakness === "common") throw createError("is one of the most common passwords. Choose another one.");
  if (weakness === "address") throw createError("must not be the e-mail address. Choose another one.");
}

/** Checks the minimum length in characters. Schemas count UTF-16 units, so four emoji would be enough. */
const isTooShort = (password: string): boolean => [...password].length < PASSWORD_CHARS_MIN;

/** Normalizes a password, so that the same characters typed on different keyboards are the same password (RFC 8265). */
function normalize(password: string): string {
  return password.normalize("NFC");
}

function randomBase64(): string {
  return Buffer.from(crypto.getRandomValues(new Uint8Array(32)))
    .toString("base64")
    .replace(/=+$/, "");
}
