import { Problem } from "../lib/problem.ts";

/** The maximum number of queued reads per user. */
export const READS_WAITING_MAX = 200;
const RETRY_AFTER_MS = 1_000;

type Options = {
  /** The maximum number of concurrent reads per user; 0: no limit. */
  atOnce: number;
  onRefused(): void;
};

type User = { running: number; waiting: (() => void)[] };

/**
 * Limits the concurrent reads of each user; further reads are queued. A large page blocks this process's only thread for tens of
 * milliseconds, so many concurrent reads of one user would slow down everyone. Only users with running reads use memory.
 */
export class ReadQueue {
  readonly #users = new Map<string, User>();
  readonly #options: Options;

  constructor(options: Options) {
    this.#options = options;
  }

  /**
   * Begins a read, after which `end` must be called. Not reentrant: a nested read could wait for itself.
   * @returns undefined if the read can begin immediately, otherwise a promise to wait for.
   * @throws Problem `rate_limited` if too many reads are queued.
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

  /** Ends a read. */
  end(userId: string): void {
    const user = this.#users.get(userId);
    if (!user) return;
    const next = user.waiting.shift();
    if (next) next();
    else if (user.running > 1) user.running -= 1;
    else this.#users.delete(userId);
  }

  /** Runs a read for a socket frame. It is never refused, because each socket has only one at a time. */
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
