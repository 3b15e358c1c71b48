import { isCollision } from "./errors.ts";

const ATTEMPTS_MAX = 5;
/** Upper bound of the pause before the first retry; doubles with each retry. */
const PAUSE_MS = 10;

/**
 * Repeats `work`, at most four times with exponential backoff and jitter, while Postgres rolls it back because of another
 * transaction: a deadlock, or a serialization failure under a stricter isolation than `read committed`.
 * @param work one transaction. Its effects outside the database must be repeatable.
 * @throws the last such error; whatever else `work` throws.
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
