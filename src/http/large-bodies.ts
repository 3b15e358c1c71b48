import { edenGC } from "bun:jsc";
import { Problem } from "../lib/problem.ts";
import { Ring } from "../lib/ring.ts";
import { SMALL_BODY_BYTES_MAX } from "./body.ts";
import type { RoutePlugin } from "./mount.ts";

/** Large bodies that are parsed at once, each of another user. */
const AT_ONCE_MAX = 4;
/** Bytes of large bodies, from when they arrive until their answer: of one user, and of all. */
const BYTES_MAX_OF_USER = 16 * 1024 * 1024;
const BYTES_MAX = 128 * 1024 * 1024;
const RETRY_AFTER_MS = 1_000;
/** A refusal is told so much later: told at once, a client that repeats at once fills the network and this process with bodies. */
const REFUSAL_DELAY_MS = 1_000;

async function refuse(code: "rate_limited" | "overloaded", detail: string): Promise<never> {
  await Bun.sleep(REFUSAL_DELAY_MS);
  throw new Problem(code, detail, { retryAfterMs: RETRY_AFTER_MS });
}

type User = { id: string; bytes: number; hasTurn: boolean; waiting: (() => void)[] };
type Body = { user: User; bytes: number; hasTurn: boolean; isParsed: boolean };

/**
 * Turns of large bodies. A megabyte of JSON takes up to 20 ms of the event loop, and several times its size of memory. So few
 * are parsed at once, and users take turns. This place is free again when the handler begins: nobody waits while others wait
 * for a lock. The turn of the user lasts until the answer: what one user has sent at once is not all in memory as objects.
 *
 * A body waits when all of it is there: nobody keeps a turn by sending slowly. Its bytes count from when they arrive. A user
 * may have as many as they leave free, as in `FairQueue`: the bound holds for all users together, and one user alone fills
 * less than half of it.
 */
export function createLargeBodies(): RoutePlugin {
  const users = new Map<string, User>();
  const bodies = new WeakMap<Request, Body>();
  /** Users without a turn who have bodies waiting, in the order in which they get it. */
  const ready = new Ring<string, User>();
  let parsing = 0;
  let heldBytes = 0;

  /** @returns a refusal: `rate_limited` when the user has too many bytes here, `overloaded` when all have. */
  function hold(request: Request, userId: string, bytes: number): Promise<never> | undefined {
    const known = bodies.get(request);
    const user = known?.user ?? users.get(userId) ?? { id: userId, bytes: 0, hasTurn: false, waiting: [] };
    const added = bytes - (known?.bytes ?? 0);
    if (user.bytes + added > BYTES_MAX_OF_USER)
      return refuse("rate_limited", "Too many of your large requests are in progress. Send fewer at a time.");
    if (user.bytes + added > BYTES_MAX - heldBytes)
      return refuse("overloaded", "Too many large requests are in progress. Try again.");
    users.set(user.id, user);
    user.bytes += added;
    heldBytes += added;
    if (known) known.bytes = bytes;
    else bodies.set(request, { user, bytes, hasTurn: false, isParsed: false });
    return undefined;
  }

  function wait(body: Body): Promise<void> {
    const { user } = body;
    return new Promise((resolve) => {
      user.waiting.push(() => {
        body.hasTurn = true;
        resolve();
      });
      if (!user.hasTurn && user.waiting.length === 1) ready.add(user.id, user);
      beginNext();
    });
  }

  function beginNext(): void {
    while (parsing < AT_ONCE_MAX) {
      const user = ready.shift();
      if (!user) return;
      user.hasTurn = true;
      parsing += 1;
      user.waiting.shift()?.();
    }
  }

  function endParsing(body: Body | undefined): void {
    if (!body?.hasTurn || body.isParsed) return;
    body.isParsed = true;
    parsing -= 1;
    // Not in this tick: what others have sent meanwhile comes first.
    setImmediate(beginNext);
  }

  function end(request: Request): void {
    const body = bodies.get(request);
    if (!body) return;
    bodies.delete(request);
    endParsing(body);
    const { user, bytes, hasTurn } = body;
    user.bytes -= bytes;
    heldBytes -= bytes;
    if (user.bytes === 0) users.delete(user.id);
    if (hasTurn) {
      user.hasTurn = false;
      if (user.waiting.length > 0) ready.add(user.id, user);
      setImmediate(beginNext);
    }
    // The copies of this body are young. This takes about a millisecond; collecting all garbage, a tenth of a second.
    setImmediate(edenGC);
  }

  return ({ takesLargeBody, waitsForModel }) => {
    if (!takesLargeBody) return undefined;
    return {
      onBytes(request, caller, bytes) {
        // A public route takes none: whose turn it is would not be known.
        return bytes > SMALL_BODY_BYTES_MAX && caller ? hold(request, caller.user.id, bytes) : undefined;
      },
      onBody(request) {
        const body = bodies.get(request);
        return body && wait(body);
      },
      beforeHandle: ({ request }) => {
        if (waitsForModel) end(request);
        else endParsing(bodies.get(request));
        return undefined;
      },
      // Also called with the answer to an error.
      mapResponse: ({ request }) => {
        end(request);
        return undefined;
      },
    };
  };
}
