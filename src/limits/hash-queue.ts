import { FairQueue } from "../lib/fair-queue.ts";
import { Problem } from "../lib/problem.ts";
import { createAddressKey } from "./address-key.ts";
import { createLimitProblem } from "./limit-problem.ts";
import type { KnownBy } from "./login-guard.ts";

/** Maximum number of queued hashes per lane, and per IP address in a lane. */
export const HASHES_WAITING_MAX = 200;
export const HASHES_WAITING_PER_ADDRESS_MAX = 100;
const RETRY_AFTER_MS = 2_000;

/** The requester of a hash, which determines the hash's position in the queue. */
export type Requester = {
  /** Null for the command line, and for clients without an address. */
  ipAddress: string | null;
  /** Identifies the account, which might not exist. */
  account: string;
  knownBy: KnownBy;
  /** Aborted when the client disconnects. */
  signal?: AbortSignal;
};

/** A queue for password hashing. It is fair to all IP addresses, and to all accounts of each address (docs/decisions/0064). */
export interface HashQueue {
  /**
   * Runs `work` after waiting in the queue.
   * @throws Problem `rate_limited` if this IP address has too many queued hashes, or `overloaded` if the queue is full or the
   * client has disconnected. Also throws the errors of `work`.
   */
  run<T>(requester: Requester, work: () => Promise<T>): Promise<T>;
}

type Options = {
  /** Maximum number of concurrent hashes. */
  parallelMax: number;
  onRejected(): void;
};

export function createHashQueue({ parallelMax, onRejected }: Options): HashQueue {
  const limits = { jobsMax: HASHES_WAITING_MAX, jobsPerSourceMax: HASHES_WAITING_PER_ADDRESS_MAX };
  // Each lane has its own capacity and receives every third slot, so unknown clients can't delay known ones.
  const createLane = () => new FairQueue<() => void>(limits);
  const lanes: Record<KnownBy, FairQueue<() => void>> = {
    account: createLane(),
    address: createLane(),
    nothing: createLane(),
  };
  const laneOrder = Object.values(lanes);
  let runningCount = 0;
  let lastLane = 0;

  function createRejection(fullPart: "source" | "queue"): Problem {
    onRejected();
    if (fullPart === "source")
      return createLimitProblem("Too many passwords from this address are waiting to be checked. Try again.", [
        { policy: "passwords_waiting", quota: HASHES_WAITING_PER_ADDRESS_MAX, waitMs: RETRY_AFTER_MS },
      ]);
    return new Problem("overloaded", "Too many passwords are waiting to be checked. Try again.", {
      retryAfterMs: RETRY_AFTER_MS,
    });
  }

  function waitForSlot({ ipAddress, account, knownBy, signal }: Requester): Promise<void> {
    const lane = lanes[knownBy];
    const key = { source: ipAddress === null ? "none" : createAddressKey(ipAddress), owner: account };
    const fullPart = lane.findFullPart(key);
    if (fullPart) throw createRejection(fullPart);
    return new Promise((resolve, reject) => {
      const start = () => {
        signal?.removeEventListener("abort", cancel);
        resolve();
      };
      const cancel = () => {
        if (job.remove()) reject(new Problem("overloaded", "The client disconnected before its password was checked."));
      };
      const job = lane.add(key, start);
      signal?.addEventListener("abort", cancel, { once: true });
      if (signal?.aborted) cancel();
    });
  }

  function shiftNextJob(): (() => void) | undefined {
    for (const _ of laneOrder) {
      lastLane = (lastLane + 1) % laneOrder.length;
      const start = laneOrder[lastLane]?.shift();
      if (start) return start;
    }
    return undefined;
  }

  /** Passes the slot of a finished job directly to the next job. */
  function releaseSlot(): void {
    const start = shiftNextJob();
    if (start) start();
    else runningCount -= 1;
  }

  return {
    async run(requester, work) {
      if (runningCount < parallelMax) runningCount += 1;
      else await waitForSlot(requester);
      try {
        return await work();
      } finally {
        releaseSlot();
      }
    },
  };
}
