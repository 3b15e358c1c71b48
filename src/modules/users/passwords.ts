import { availableParallelism } from "node:os";
import { Type } from "@sinclair/typebox";
import { createInvalid, Problem } from "../../lib/problem.ts";

/** UTF-16 units. The upper end bounds the work that one request can ask for. */
const PASSWORD_CHARS_MIN = 8;
const PASSWORD_CHARS_MAX = 128;

/** OWASP's first choice for argon2id: 19 MiB and two passes, about 50 ms of one core. */
const MEMORY_KIB = 19_456;
const PASSES = 2;
/** Hashes that are computed at once; one core stays free for the event loop. */
const PARALLEL_MAX = Math.min(4, Math.max(1, availableParallelism() - 1));
/** Hashes that may wait for their turn; more are refused at once, so that a flood cannot pile up. */
export const HASHES_WAITING_MAX = 100;
const RETRY_AFTER_MS = 2_000;

/** A password that is being chosen. */
export const NewPassword = Type.String({
  minLength: PASSWORD_CHARS_MIN,
  maxLength: PASSWORD_CHARS_MAX,
  format: "text",
  description: `${PASSWORD_CHARS_MIN} to ${PASSWORD_CHARS_MAX} characters.`,
});

/** A password that is shown to prove who asks. */
export const CurrentPassword = Type.String({ minLength: 1, maxLength: PASSWORD_CHARS_MAX, format: "text" });

export type PasswordOptions = { memoryKib?: number; passes?: number; parallelMax?: number; waitingMax?: number };

/** Hashes and checks passwords with argon2id beside the event loop, a few at a time. */
export interface Passwords {
  /** @returns a PHC string with its own salt. @throws Problem `unavailable` when too many are waiting. */
  hash(password: string): Promise<string>;
  /**
   * Whether it is the password of this hash. Without a hash the answer is no, after the same time.
   * @throws Problem `unavailable` when too many are waiting.
   */
  matches(password: string, hash: string | null | undefined): Promise<boolean>;
}

export function createPasswords(options: PasswordOptions = {}): Passwords {
  const {
    memoryKib = MEMORY_KIB,
    passes = PASSES,
    parallelMax = PARALLEL_MAX,
    waitingMax = HASHES_WAITING_MAX,
  } = options;
  const waiting: (() => void)[] = [];
  let running = 0;
  /** A well-formed hash that no password has: checking against it takes as long as against a real one. */
  const nobodysHash = `$argon2id$v=19$m=${memoryKib},t=${passes},p=1$${randomBase64()}$${randomBase64()}`;

  async function queue<T>(work: () => Promise<T>): Promise<T> {
    if (running < parallelMax) running++;
    else {
      if (waiting.length >= waitingMax)
        throw new Problem("unavailable", "Too many logins at once; try again in a moment.", {
          retryAfterMs: RETRY_AFTER_MS,
        });
      // Whoever finishes hands over its place without giving it up in between.
      await new Promise<void>((resolve) => waiting.push(resolve));
    }
    try {
      return await work();
    } finally {
      const next = waiting.shift();
      if (next) next();
      else running--;
    }
  }

  return {
    hash(password) {
      const cost = { algorithm: "argon2id", memoryCost: memoryKib, timeCost: passes } as const;
      return queue(() => Bun.password.hash(normalise(password), cost));
    },

    async matches(password, hash) {
      const isRight = await queue(() => Bun.password.verify(normalise(password), hash ?? nobodysHash));
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
