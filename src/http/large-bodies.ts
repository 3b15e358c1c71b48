import { Problem } from "../lib/problem.ts";
import type { RoutePlugin } from "./mount.ts";

/** Bytes. A larger body waits for its turn; a frame of a socket is never larger. */
const LARGE_BODY_BYTES = 64 * 1024;
/** Large bodies that are worked on at once: of all users, and one of each. */
const AT_ONCE_MAX = 4;
/** Bytes that may wait for a turn: of one user, and of all. */
const WAITING_BYTES_MAX_OF_USER = 64 * 1024 * 1024;
const WAITING_BYTES_MAX = 256 * 1024 * 1024;
const RETRY_AFTER_MS = 1_000;
/** Bytes of large bodies after which garbage is collected. Left alone, the heap grows to three times its size first. */
const COLLECT_AFTER_BYTES = 8 * 1024 * 1024;

/** Whose turn it is where nobody is known yet: nothing that is sent there needs a large body. */
const NOBODY = "";

type Waiting = { bytes: number; begin(): void };
type Queue = { waiting: Waiting[]; bytes: number; isServed: boolean };

/**
 * Turns of large bodies, from parsing until there is an answer. A megabyte of JSON takes up to 20 ms of the event loop on
 * this way, and several times its size of memory. So each user has one at a time, and users take turns; what waits is only
 * bytes. A body waits when all of it is there: nobody keeps a turn by sending slowly.
 */
export function createLargeBodies(): RoutePlugin {
  /** Of users who have a turn or wait for one, in the order in which they get theirs. */
  const queues = new Map<string, Queue>();
  const turns = new WeakMap<Request, () => void>();
  let running = 0;
  let waitingBytes = 0;
  let uncollectedBytes = 0;

  /** Who has little waiting is not refused because others have much. */
  const isTooMuch = (ofUser: number): boolean =>
    ofUser > WAITING_BYTES_MAX_OF_USER ||
    (waitingBytes > WAITING_BYTES_MAX && ofUser > WAITING_BYTES_MAX / Math.max(1, queues.size));

  function beginNext(): void {
    for (const [key, queue] of queues) {
      if (running >= AT_ONCE_MAX) return;
      const next = queue.isServed ? undefined : queue.waiting.shift();
      if (!next) continue;
      // To the end of the line.
      queues.delete(key);
      queues.set(key, queue);
      queue.isServed = true;
      queue.bytes -= next.bytes;
      waitingBytes -= next.bytes;
      running += 1;
      next.begin();
    }
  }

  function endTurn(key: string, queue: Queue, bytes: number): void {
    queue.isServed = false;
    running -= 1;
    uncollectedBytes += bytes;
    if (uncollectedBytes >= COLLECT_AFTER_BYTES) {
      uncollectedBytes = 0;
      // Beside the event loop: collecting at once would stop everybody, with a heap of 100 MB for a tenth of a second.
      Bun.gc(false);
    }
    if (queue.waiting.length === 0) queues.delete(key);
    // Not in this tick: what others have sent meanwhile comes first.
    setImmediate(beginNext);
  }

  /** @throws Problem `rate_limited` when too much of this user waits. */
  function wait(request: Request, key: string, bytes: number): Promise<void> {
    const queue = queues.get(key) ?? { waiting: [], bytes: 0, isServed: false };
    if (isTooMuch(queue.bytes + bytes))
      throw new Problem("rate_limited", "Too many of your large requests are waiting. Send fewer at a time.", {
        retryAfterMs: RETRY_AFTER_MS,
      });
    queues.set(key, queue);
    queue.bytes += bytes;
    waitingBytes += bytes;
    return new Promise((resolve) => {
      const begin = () => {
        turns.set(request, () => endTurn(key, queue, bytes));
        resolve();
      };
      queue.waiting.push({ bytes, begin });
      beginNext();
    });
  }

  function end(request: Request): void {
    const endOfTurn = turns.get(request);
    if (!endOfTurn) return;
    turns.delete(request);
    endOfTurn();
  }

  return ({ method, waitsForModel }) => {
    if (method === "GET") return undefined;
    return {
      onBody(request, caller, bytes) {
        if (bytes <= LARGE_BODY_BYTES) return undefined;
        return wait(request, caller?.user.id ?? NOBODY, bytes);
      },
      ...(waitsForModel && {
        beforeHandle: ({ request }) => {
          end(request);
          return undefined;
        },
      }),
      // Also called with the answer to an error.
      mapResponse: ({ request }) => {
        end(request);
        return undefined;
      },
    };
  };
}
