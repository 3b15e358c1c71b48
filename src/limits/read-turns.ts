import { Problem } from "../lib/problem.ts";

/** Reads of one user that may wait for their turn. */
export const READS_WAITING_MAX = 200;
const RETRY_AFTER_MS = 1_000;

type Options = {
  /** Reads of one user at the same time; 0: no limit. */
  atOnce: number;
  onRefused(): void;
};

type User = { running: number; waiting: (() => void)[] };

/**
 * Turns for the reads of each user: some at the same time, the others wait in order. A large page takes the one thread of this
 * process for tens of milliseconds; many of them at once, of one user, would be felt by everybody. Only users who read just
 * now take memory.
 */
export class ReadTurns {
  readonly #users = new Map<string, User>();
  readonly #options: Options;

  constructor(options: Options) {
    this.#options = options;
  }

  /**
   * Begins a read; `end` must follow. Whoever has a turn must not ask for another one: it might wait for itself.
   * @returns undefined where it begins at once, otherwise a promise of its turn.
   * @throws Problem `rate_limited` when too many wait.
   */
  begin(userId: string): Promise<void> | undefined {
    const waiting = this.#users.get(userId)?.waiting.length ?? 0;
    if (waiting >= READS_WAITING_MAX) {
      this.#options.onRefused();
      throw new Problem("rate_limited", `A user may have ${READS_WAITING_MAX} reads waiting.`, {
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

  /** The same for a frame of a socket: each socket has one at a time, so that it waits, however many do. */
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
