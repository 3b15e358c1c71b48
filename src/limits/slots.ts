import { Problem } from "../lib/problem.ts";
import { createLimitProblem } from "./limit-problem.ts";

const RETRY_AFTER_MS = 2_000;

type Options = {
  slotsMax: number;
  resources: string;
  /** The name of the limit in the headers of an error. */
  policy?: string;
  onRejected(): void;
};

/** Limits the number of a user's resources, such as open sockets and feeds. Only users with a slot use memory. */
export class Slots {
  readonly #counts = new Map<string, number>();
  readonly #options: Options;

  /**
   * @param options.slotsMax the slots per user, or 0 for no limit.
   * @param options.resources the name of the resources, for error messages.
   */
  constructor(options: Options) {
    this.#options = options;
  }

  countSlots(userId: string): number {
    return this.#counts.get(userId) ?? 0;
  }

  hasFreeSlot(userId: string): boolean {
    const { slotsMax } = this.#options;
    return slotsMax === 0 || this.countSlots(userId) < slotsMax;
  }

  /** @throws Problem `rate_limited` if the user has no free slot. */
  requireFreeSlot(userId: string): void {
    if (!this.hasFreeSlot(userId)) throw this.countRejection();
  }

  /** Counts a rejection and returns its error. */
  countRejection(): Problem {
    const { slotsMax, resources, policy, onRejected } = this.#options;
    onRejected();
    const detail = `Each user is limited to ${slotsMax} ${resources}.`;
    if (policy === undefined) return new Problem("rate_limited", detail, { retryAfterMs: RETRY_AFTER_MS });
    return createLimitProblem(detail, [{ policy, quota: slotsMax, waitMs: RETRY_AFTER_MS }]);
  }

  /**
   * Acquires a slot.
   * @returns a function that releases the slot. Calling it again has no effect.
   * @throws Problem `rate_limited` if no slot is free.
   */
  acquire(userId: string): () => void {
    this.requireFreeSlot(userId);
    this.#counts.set(userId, this.countSlots(userId) + 1);
    let isHeld = true;
    return () => {
      if (!isHeld) return;
      isHeld = false;
      const remaining = this.countSlots(userId) - 1;
      if (remaining > 0) this.#counts.set(userId, remaining);
      else this.#counts.delete(userId);
    };
  }
}
