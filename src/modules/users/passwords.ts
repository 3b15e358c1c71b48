import { availableParallelism } from "node:os";
import { Type } from "@sinclair/typebox";
import type { Caller } from "../../access/caller.ts";
import { createInvalid } from "../../lib/problem.ts";
import { createHashQueue, type Requester } from "../../limits/hash-queue.ts";

/** UTF-16 units. The upper end bounds the work that one request can ask for. */
const PASSWORD_CHARS_MIN = 8;
const PASSWORD_CHARS_MAX = 128;

/** OWASP's first choice for argon2id: 19 MiB and two passes, about 50 ms of one core. */
const MEMORY_KIB = 19_456;
const PASSES = 2;
/** Hashes that are computed at once; one core stays free for the event loop. */
const PARALLEL_MAX = Math.min(4, Math.max(1, availableParallelism() - 1));

/** A password that is being chosen. */
export const NewPassword = Type.String({
  minLength: PASSWORD_CHARS_MIN,
  maxLength: PASSWORD_CHARS_MAX,
  format: "text",
  description: `${PASSWORD_CHARS_MIN} to ${PASSWORD_CHARS_MAX} characters.`,
});

/** A password that is shown to prove who asks. */
export const CurrentPassword = Type.String({ minLength: 1, maxLength: PASSWORD_CHARS_MAX, format: "text" });

export type PasswordOptions = { memoryKib?: number; passes?: number; parallelMax?: number };

/** A logged-in user, who asks by a credential of theirs. */
export const createRequester = ({ user, ipAddress }: Pick<Caller, "user" | "ipAddress">): Requester => ({
  ipAddress,
  account: `user:${user.id}`,
  knownBy: "account",
});

/** The operator, by the command line or the configuration. */
export const operator: Requester = { ipAddress: null, account: "operator", knownBy: "account" };

/** Hashes and checks passwords with argon2id beside the event loop, a few at a time, in the order of `HashQueue`. */
export interface Passwords {
  /** @returns a PHC string with its own salt. @throws Problem `rate_limited`, `overloaded` when too many are waiting. */
  hash(password: string, requester: Requester): Promise<string>;
  /**
   * Whether it is the password of this hash. Without a hash the answer is no, after the same time.
   * @throws Problem `rate_limited`, `overloaded` when too many are waiting.
   */
  matches(password: string, hash: string | null | undefined, requester: Requester): Promise<boolean>;
}

/** @param onRefused called for each hash that is refused because too many are waiting. */
export function createPasswords(options: PasswordOptions = {}, onRefused: () => void = () => {}): Passwords {
  const { memoryKib = MEMORY_KIB, passes = PASSES, parallelMax = PARALLEL_MAX } = options;
  const queue = createHashQueue({ parallelMax, onRefused });
  /** A well-formed hash that no password has: checking against it takes as long as against a real one. */
  const nobodysHash = `$argon2id$v=19$m=${memoryKib},t=${passes},p=1$${randomBase64()}$${randomBase64()}`;

  return {
    hash(password, requester) {
      const cost = { algorithm: "argon2id", memoryCost: memoryKib, timeCost: passes } as const;
      return queue.run(requester, () => Bun.password.hash(normalise(password), cost));
    },

    async matches(password, hash, requester) {
      const verify = () => Bun.password.verify(normalise(password), hash ?? nobodysHash);
      const isRight = await queue.run(requester, verify);
      return isRight && typeof hash === "string";
    },
  };
}

/**
 * Requests are checked by their schema; the command line and the configuration come without one.
 * @throws Problem `invalid`.
 */
export function checkNewPassword(password: string): void {
  if (password.length >= PASSWORD_CHARS_MIN && password.length <= PASSWORD_CHARS_MAX) return;
  throw createInvalid("#/password", `password must have ${PASSWORD_CHARS_MIN} to ${PASSWORD_CHARS_MAX} characters.`);
}

/** The same characters from different keyboards are the same password (RFC 8265). */
function normalise(password: string): string {
  return password.normalize("NFC");
}

function randomBase64(): string {
  return Buffer.from(crypto.getRandomValues(new Uint8Array(32)))
    .toString("base64")
    .replace(/=+$/, "");
}
