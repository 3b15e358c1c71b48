import { Problem } from "../lib/problem.ts";

/** Maximum number of queued reads per user. */
export const READS_WAITING_MAX = 200;
const RETRY_AFTER_MS = 1_000;

type Options = {
  /** Maximum number of concurrent reads per user, or 0 for no limit. */
  concurrentMax: number;
  onRejected(): void;
};

type User = { running: number; waiting: (() => void)[] };

/**
 * Limits each user's concurrent reads and queues further ones. A large page blocks the event loop for tens of milliseconds, so
 * many concurrent reads by one user would slow down other users. Only users with running reads use memory.
 */
export class ReadQueue {
  readonly #users = new Map<string, User>();
  readonly #options: Options;

  constructor(options: Options) {
    this.#options = options;
  }

  /**
   * Starts a read, after which `finish` must be called. A read must not start another read, which could then wait forever.
   * @returns undefined if the read can start immediately, otherwise a promise to wait for.
   * @throws Problem `rate_limited` if too many reads are queued.
   */
  start(userId: string): Promise<void> | undefined {
    const waitingCount = this.#users.get(userId)?.waiting.length ?? 0;
    if (waitingCount >= READS_WAITING_MAX) {
      this.#options.onRejected();
      throw new Problem("rate_limited", `Each user is limited to ${READS_WAITING_MAX} waiting reads.`, {
        retryAfterMs: RETRY_AFTER_MS,
      });
    }
    return this.#acquire(userId);
  }

  /** Ends a read. */
  finish(userId: string): void {
    const user = this.#users.get(userId);
    if (!user) return;
    const next = user.waiting.shift();
    if (next) next();
    else if (user.running > 1) user.running -= 1;
    else this.#users.delete(userId);
  }

  /** Runs a read for a socket frame. It is never rejected, because each socket runs only one read at a time. */
  async run<T>(userId: string, work: () => Promise<T>): Promise<T> {
    await this.#acquire(userId);
    try {
      return await work();
    } finally {
      this.finish(userId);
    }
  }

  #acquire(userId: string): Promise<void> | undefined {
    const { concurrentMax } = this.#options;
    const user = this.#users.get(userId);
    if (!user) {
      this.#users.set(userId, { running: 1, waiting: [] });
      return undefined;
    }
    if (concurrentMax === 0 || user.running < concurrentMax) {
      user.running += 1;
      return undefined;
    }
    return new Promise((resolve) => user.waiting.push(resolve));
  }
}
