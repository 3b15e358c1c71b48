import { isCollision } from "./errors.ts";

const TRIES_MAX = 5;
/** The longest pause before the second try; it doubles with each one. */
const PAUSE_MS = 10;

/**
 * Repeats `work`, at most four times, with exponential backoff and jitter, as long as Postgres undoes all of it because of
 * what another transaction did at the same time: a deadlock, or a conflict under a stricter isolation than `read committed`.
 * @param work one transaction. What it does outside of the database must be right when it runs again.
 * @throws the last such error; whatever else `work` throws.
 */
export async function retryCollisions<T>(work: () => Promise<T>): Promise<T> {
  for (let tries = 1; ; tries += 1) {
    try {
      return await work();
    } catch (error) {
      if (tries >= TRIES_MAX || !isCollision(error)) throw error;
    }
    await Bun.sleep(Math.random() * PAUSE_MS * 2 ** (tries - 1));
  }
}
