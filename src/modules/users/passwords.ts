import { availableParallelism } from "node:os";
import { Type } from "@sinclair/typebox";
import type { Caller } from "../../access/caller.ts";
import { createInvalid, type Problem } from "../../lib/problem.ts";
import { findWeakness } from "../../lib/weak-passwords.ts";
import { createHashQueue, type Requester } from "../../limits/hash-queue.ts";

/** Characters: an emoji is one, though it takes two UTF-16 units. */
const PASSWORD_CHARS_MIN = 8;
/** UTF-16 units: limits the hashing work per request. */
const PASSWORD_CHARS_MAX = 128;

/** OWASP's first choice for argon2id: 19 MiB and two passes, about 50 ms on one core. */
const MEMORY_KIB = 19_456;
const PASSES = 2;
/** Concurrent hashes; one core stays free for the event loop. */
const PARALLEL_MAX = Math.min(4, Math.max(1, availableParallelism() - 1));

export const NewPassword = Type.String({
  minLength: PASSWORD_CHARS_MIN,
  maxLength: PASSWORD_CHARS_MAX,
  format: "text",
  description: `${PASSWORD_CHARS_MIN} to ${PASSWORD_CHARS_MAX} characters. Not one of the 10,000 most common passwords or the user's own address, in any case.`,
});

/** A password that proves the user's identity. */
export const CurrentPassword = Type.String({ minLength: 1, maxLength: PASSWORD_CHARS_MAX, format: "text" });

export type PasswordOptions = { memoryKib?: number; passes?: number; parallelMax?: number };

/** A logged-in user, identified by their credential. */
export const createRequester = ({ user, ipAddress }: Pick<Caller, "user" | "ipAddress">): Requester => ({
  ipAddress,
  account: `user:${user.id}`,
  knownBy: "account",
});

/** The operator, through the command line or the configuration. */
export const operator: Requester = { ipAddress: null, account: "operator", knownBy: "account" };

/** Hashes and verifies passwords with argon2id off the event loop, a few at a time, in the order of `HashQueue`. */
export interface Passwords {
  /** @returns a PHC string with its own salt. @throws Problem `rate_limited`, `overloaded` if too many are waiting. */
  hash(password: string, requester: Requester): Promise<string>;
  /**
   * Whether the password matches the hash. Without a hash the result is false, after the same time.
   * @throws Problem `rate_limited`, `overloaded` if too many are waiting.
   */
  matches(password: string, hash: string | null | undefined, requester: Requester): Promise<boolean>;
}

/** @param onRefused called for each hash refused because too many are waiting. */
export function createPasswords(options: PasswordOptions = {}, onRefused: () => void = () => {}): Passwords {
  const { memoryKib = MEMORY_KIB, passes = PASSES, parallelMax = PARALLEL_MAX } = options;
  const queue = createHashQueue({ parallelMax, onRefused });
  /** A well-formed hash that matches no password: verifying against it takes as long as against a real one. */
  const nobodysHash = `$argon2id$v=19$m=${memoryKib},t=${passes},p=1$${randomBase64()}$${randomBase64()}`;

  return {
    hash(password, requester) {
      const cost = { algorithm: "argon2id", memoryCost: memoryKib, timeCost: passes } as const;
      return queue.run(requester, () => Bun.password.hash(normalize(password), cost));
    },

    async matches(password, hash, requester) {
      const verify = () => Bun.password.verify(normalize(password), hash ?? nobodysHash);
      const isRight = await queue.run(requester, verify);
      return isRight && typeof hash === "string";
    },
  };
}

/** A new password: its user, and the input field it comes from. */
export type ChosenPassword = { password: string; email: string; field?: "password" | "new_password" };

/**
 * Called wherever a password is set. Logins don't call it, so older passwords keep working.
 * @throws Problem `invalid`: wrong length, too common, or the user's own address.
 */
export function checkNewPassword({ password, email, field = "password" }: ChosenPassword): void {
  const refuse = (what: string): Problem => createInvalid(`#/${field}`, `${field} ${what}`);
  // Requests are validated by their schema; the command line and the configuration aren't.
  if (isTooShort(password) || password.length > PASSWORD_CHARS_MAX)
    throw refuse(`must have ${PASSWORD_CHARS_MIN} to ${PASSWORD_CHARS_MAX} characters.`);
  const weakness = findWeakness(password, email);
  if (weakness === "common") throw refuse("is one of the most common passwords. Choose another one.");
  if (weakness === "address") throw refuse("must not be the e-mail address. Choose another one.");
}

/** Schemas count UTF-16 units, so four emoji pass them. */
const isTooShort = (password: string): boolean => [...password].length < PASSWORD_CHARS_MIN;

/** The same characters from different keyboards are the same password (RFC 8265). */
function normalize(password: string): string {
  return password.normalize("NFC");
}

function randomBase64(): string {
  return Buffer.from(crypto.getRandomValues(new Uint8Array(32)))
    .toString("base64")
    .replace(/=+$/, "");
}
