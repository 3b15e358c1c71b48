import { Problem } from "../lib/problem.ts";
import { createLimitProblem } from "./refusal.ts";

/** Retry delay for callers without a free slot. */
const RETRY_AFTER_MS = 2_000;

type Options = {
  slotsMax: number;
  what: string;
  /** The name of the limit in the headers of a refusal. */
  policy?: string;
  onRefused(): void;
};

/** Per-user slots for long-lived resources: open sockets, feeds. Only users who hold one take memory. */
export class Slots {
  readonly #counts = new Map<string, number>();
  readonly #options: Options;

  /** @param options `slotsMax` per user, 0 for no limit; `what` they are for, in the plural. */
  constructor(options: Options) {
    this.#options = options;
  }

  count(userId: string): number {
    return this.#counts.get(userId) ?? 0;
  }

  hasRoom(userId: string): boolean {
    const { slotsMax } = this.#options;
    return slotsMax === 0 || this.count(userId) < slotsMax;
  }

  /** @throws Problem `rate_limited` when the user has no free slot. */
  requireRoom(userId: string): void {
    if (!this.hasRoom(userId)) throw this.refuse();
  }

  /** The error when no slot is free; counts the refusal. */
  refuse(): Problem {
    const { slotsMax, what, policy, onRefused } = this.#options;
    onRefused();
    const detail = `Each user is limited to ${slotsMax} ${what}.`;
    if (policy === undefined) return new Problem("rate_limited", detail, { retryAfterMs: RETRY_AFTER_MS });
    return createLimitProblem(detail, [{ policy, quota: slotsMax, waitMs: RETRY_AFTER_MS }]);
  }

  /**
   * Takes a slot.
   * @returns a function that releases it; idempotent. @throws Problem `rate_limited` when there is none.
   */
  take(userId: string): () => void {
    this.requireRoom(userId);
    this.#counts.set(userId, this.count(userId) + 1);
    let isHeld = true;
    return () => {
      if (!isHeld) return;
      isHeld = false;
      const left = this.count(userId) - 1;
      if (left > 0) this.#counts.set(userId, left);
      else this.#counts.delete(userId);
    };
  }
}
