import { Problem } from "../lib/problem.ts";
import { createLimitProblem } from "./refusal.ts";

/** When a caller whose places are all taken may look again. */
const RETRY_AFTER_MS = 2_000;

type Options = {
  placesMax: number;
  what: string;
  /** The name of the limit, where the headers of a refusal tell it. */
  policy?: string;
  onRefused(): void;
};

/** Places of each user for what lasts a while: open sockets, feeds. Only users who hold one take memory. */
export class Slots {
  readonly #taken = new Map<string, number>();
  readonly #options: Options;

  /** @param options `placesMax` for each user, 0 for no limit; `what` they are for, in the plural. */
  constructor(options: Options) {
    this.#options = options;
  }

  count(userId: string): number {
    return this.#taken.get(userId) ?? 0;
  }

  hasRoom(userId: string): boolean {
    const { placesMax } = this.#options;
    return placesMax === 0 || this.count(userId) < placesMax;
  }

  /** @throws Problem `rate_limited` when the user has no place left. */
  requireRoom(userId: string): void {
    if (!this.hasRoom(userId)) throw this.refuse();
  }

  /** For a place that is not there; counted. */
  refuse(): Problem {
    const { placesMax, what, policy, onRefused } = this.#options;
    onRefused();
    const detail = `A user may have ${placesMax} ${what}.`;
    if (policy === undefined) return new Problem("rate_limited", detail, { retryAfterMs: RETRY_AFTER_MS });
    return createLimitProblem(detail, [{ policy, quota: placesMax, waitMs: RETRY_AFTER_MS }]);
  }

  /**
   * Takes a place.
   * @returns gives it back; a second call does nothing. @throws Problem `rate_limited` when there is none.
   */
  take(userId: string): () => void {
    this.requireRoom(userId);
    this.#taken.set(userId, this.count(userId) + 1);
    let isTaken = true;
    return () => {
      if (!isTaken) return;
      isTaken = false;
      const left = this.count(userId) - 1;
      if (left > 0) this.#taken.set(userId, left);
      else this.#taken.delete(userId);
    };
  }
}
