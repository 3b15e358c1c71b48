import { FairQueue } from "../lib/fair-queue.ts";
import { Problem } from "../lib/problem.ts";
import { createAddressKey } from "./address-key.ts";
import type { KnownBy } from "./login-guard.ts";
import { createLimitProblem } from "./refusal.ts";

/** Hashes that may wait in each lane, and how many of them per address. */
export const HASHES_WAITING_MAX = 200;
export const HASHES_WAITING_PER_ADDRESS_MAX = 100;
const RETRY_AFTER_MS = 2_000;

/** The requester of a hash; determines its position in the queue. */
export type Requester = {
  /** Null for the command line, and for clients without an address. */
  ipAddress: string | null;
  /** Identifies the account, whether it exists or not. */
  account: string;
  knownBy: KnownBy;
  /** Aborted when the client disconnects. */
  signal?: AbortSignal;
};

/** A queue for hashing passwords, fair between addresses and between the accounts of each (docs/decisions/0064). */
export interface HashQueue {
  /**
   * Runs `work` when it is the requester's turn.
   * @throws Problem `rate_limited` (this address has too many waiting), `overloaded` (the queue is full, or the client has
   * disconnected); whatever `work` throws.
   */
  run<T>(requester: Requester, work: () => Promise<T>): Promise<T>;
}

type Options = {
  /** Concurrent hashes. */
  parallelMax: number;
  onRefused(): void;
};

export function createHashQueue({ parallelMax, onRefused }: Options): HashQueue {
  const bounds = { jobsMax: HASHES_WAITING_MAX, jobsPerSourceMax: HASHES_WAITING_PER_ADDRESS_MAX };
  // Each lane has its own capacity and every third turn: unknown clients can't take turns from known ones.
  const createLane = () => new FairQueue<() => void>(bounds);
  const lanes: Record<KnownBy, FairQueue<() => void>> = {
    account: createLane(),
    address: createLane(),
    nothing: createLane(),
  };
  const laneOrder = Object.values(lanes);
  let running = 0;
  let lastLane = 0;

  function refuse(refusal: "source" | "queue"): Problem {
    onRefused();
    if (refusal === "source")
      return createLimitProblem("Too many passwords from this address are waiting to be checked. Try again.", [
        { policy: "passwords_waiting", quota: HASHES_WAITING_PER_ADDRESS_MAX, waitMs: RETRY_AFTER_MS },
      ]);
    return new Problem("overloaded", "Too many passwords are waiting to be checked. Try again.", {
      retryAfterMs: RETRY_AFTER_MS,
    });
  }

  function wait({ ipAddress, account, knownBy, signal }: Requester): Promise<void> {
    const lane = lanes[knownBy];
    const key = { source: ipAddress === null ? "none" : createAddressKey(ipAddress), owner: account };
    const refusal = lane.findRefusal(key);
    if (refusal) throw refuse(refusal);
    return new Promise((resolve, reject) => {
      const begin = () => {
        signal?.removeEventListener("abort", leave);
        resolve();
      };
      const leave = () => {
        if (job.leave()) reject(new Problem("overloaded", "The client disconnected before its password was checked."));
      };
      const job = lane.add(key, begin);
      signal?.addEventListener("abort", leave, { once: true });
      if (signal?.aborted) leave();
    });
  }

  function takeNext(): (() => void) | undefined {
    for (const _ of laneOrder) {
      lastLane = (lastLane + 1) % laneOrder.length;
      const begin = laneOrder[lastLane]?.take();
      if (begin) return begin;
    }
    return undefined;
  }

  /** A finished job hands its slot directly to the next one. */
  function release(): void {
    const begin = takeNext();
    if (begin) begin();
    else running -= 1;
  }

  return {
    async run(requester, work) {
      if (running < parallelMax) running += 1;
      else await wait(requester);
      try {
        return await work();
      } finally {
        release();
      }
    },
  };
}
