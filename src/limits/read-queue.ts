import { Problem } from "../lib/problem.ts";

/** Reads of one user that may wait. */
export const READS_WAITING_MAX = 200;
const RETRY_AFTER_MS = 1_000;

type Options = {
  /** Concurrent reads of one user; 0: no limit. */
  atOnce: number;
  onRefused(): void;
};

type User = { running: number; waiting: (() => void)[] };

/**
 * Limits the concurrent reads of each user; further reads wait in order. A large page blocks this process's only thread for
 * tens of milliseconds, so many at once from one user would slow down everyone. Only users with running reads take memory.
 */
export class ReadQueue {
  readonly #users = new Map<string, User>();
  readonly #options: Options;

  constructor(options: Options) {
    this.#options = options;
  }

  /**
   * Begins a read; `end` must follow. Not reentrant: a nested read could wait for itself.
   * @returns undefined if it begins immediately, otherwise a promise.
   * @throws Problem `rate_limited` when too many wait.
   */
  begin(userId: string): Promise<void> | undefined {
    const waiting = this.#users.get(userId)?.waiting.length ?? 0;
    if (waiting >= READS_WAITING_MAX) {
      this.#options.onRefused();
      throw new Problem("rate_limited", `Each user is limited to ${READS_WAITING_MAX} waiting reads.`, {
        retryAfterMs: RETRY_AFTER_MS,
      });
    }
    return this.#enter(userId);
  }

  /** Ends a read that has begun. */
  end(userId: string): void {
    const user = this.#users.get(userId);
    if (!user) return;
    const next = user.waiting.shift();
    if (next) next();
    else if (user.running > 1) user.running -= 1;
    else this.#users.delete(userId);
  }

  /** Begins a read for a socket frame: each socket has one at a time, so it may always wait. */
  async run<T>(userId: string, work: () => Promise<T>): Promise<T> {
    await this.#enter(userId);
    try {
      return await work();
    } finally {
      this.end(userId);
    }
  }

  #enter(userId: string): Promise<void> | undefined {
    const { atOnce } = this.#options;
    const user = this.#users.get(userId);
    if (!user) {
      this.#users.set(userId, { running: 1, waiting: [] });
      return undefined;
    }
    if (atOnce === 0 || user.running < atOnce) {
      user.running += 1;
      return undefined;
    }
    return new Promise((resolve) => user.waiting.push(resolve));
  }
}
