import { isCollision } from "./errors.ts";

const ATTEMPTS_MAX = 5;
/** The maximum delay before the first retry. It doubles with each retry. */
const RETRY_DELAY_MS = 10;

/**
 * Runs `work`, and retries it if Postgres rolls it back because of another transaction (a deadlock, or a serialization failure if
 * the isolation level is stricter than `read committed`). Retries up to four times, with exponential backoff and jitter.
 * @param work a transaction. If it has effects outside the database, it must be safe to repeat them.
 * @throws the error of the last attempt, and all other errors of `work`.
 */
export async function retryCollisions<T>(work: () => Promise<T>): Promise<T> {
  for (let attempts = 1; ; attempts += 1) {
    try {
      return await work();
    } catch (error) {
      if (attempts >= ATTEMPTS_MAX || !isCollision(error)) throw error;
    }
    await Bun.sleep(Math.random() * RETRY_DELAY_MS * 2 ** (attempts - 1));
  }
}
