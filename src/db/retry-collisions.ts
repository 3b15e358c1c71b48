import { isCollision } from "./errors.ts";

const ATTEMPTS_MAX = 5;
/** The longest pause before the first retry. It doubles with each retry. */
const PAUSE_MS = 10;

/**
 * Runs `work`, and retries it while Postgres rolls it back because of another transaction: after a deadlock, or a serialization
 * failure if the isolation is stricter than `read committed`. Retries up to four times, with exponential backoff and jitter.
 * @param work a transaction. Its effects outside the database must be repeatable.
 * @throws the last of these errors; whatever else `work` throws.
 */
export async function retryCollisions<T>(work: () => Promise<T>): Promise<T> {
  for (let attempts = 1; ; attempts += 1) {
    try {
      return await work();
    } catch (error) {
      if (attempts >= ATTEMPTS_MAX || !isCollision(error)) throw error;
    }
    await Bun.sleep(Math.random() * PAUSE_MS * 2 ** (attempts - 1));
  }
}
