import { edenGC } from "bun:jsc";
import { Problem } from "../lib/problem.ts";
import { Ring } from "../lib/ring.ts";
import { SMALL_BODY_BYTES_MAX } from "./body.ts";
import type { RoutePlugin } from "./mount.ts";

/** Large bodies that are parsed at the same time, each of another user. */
const PARSING_MAX = 4;
/** Bytes of large bodies held in memory, from arrival until the response: for one user, and in total. */
const USER_BYTES_MAX = 16 * 1024 * 1024;
const BYTES_MAX = 128 * 1024 * 1024;
const RETRY_AFTER_MS = 1_000;
/** Delays refusals: a client that retries immediately would flood the network and this process with bodies. */
const REFUSAL_DELAY_MS = 1_000;

async function createRefusal(code: "rate_limited" | "overloaded", detail: string): Promise<never> {
  await Bun.sleep(REFUSAL_DELAY_MS);
  throw new Problem(code, detail, { retryAfterMs: RETRY_AFTER_MS });
}

type User = { id: string; bytes: number; isActive: boolean; waiting: (() => void)[] };
type Body = { user: User; bytes: number; hasSlot: boolean; isParsed: boolean };

/**
 * Schedules large bodies. Parsing a megabyte of JSON blocks the event loop for up to 20 ms and takes several times its size in
 * memory. So few are parsed at the same time, and users take turns. A parsing slot is released when the handler begins: a
 * handler that waits for a lock doesn't block others. A user's turn lasts until the response: bodies that one user sends
 * concurrently are not all in memory as objects.
 *
 * A body is queued only after all of it arrived, so a slow sender holds no slot. Its bytes count from arrival. A user may hold
 * as many bytes as are still free, as in `FairQueue`: the bound holds for all users together, and one user alone fills less
 * than half of it.
 */
export function createLargeBodies(): RoutePlugin {
  const users = new Map<string, User>();
  const bodies = new WeakMap<Request, Body>();
  /** Users without a turn who have queued bodies, in the order of their turns. */
  const ready = new Ring<string, User>();
  let parsing = 0;
  let reservedBytes = 0;

  /** @returns a refusal: `rate_limited` if this user holds too many bytes, `overloaded` if all users together do. */
  function reserve(request: Request, userId: string, bytes: number): Promise<never> | undefined {
    const known = bodies.get(request);
    const user = known?.user ?? users.get(userId) ?? { id: userId, bytes: 0, isActive: false, waiting: [] };
    const added = bytes - (known?.bytes ?? 0);
    if (user.bytes + added > USER_BYTES_MAX)
      return createRefusal("rate_limited", "Too many of your large requests are in progress. Send fewer at a time.");
    if (user.bytes + added > BYTES_MAX - reservedBytes)
      return createRefusal("overloaded", "Too many large requests are in progress. Try again.");
    users.set(user.id, user);
    user.bytes += added;
    reservedBytes += added;
    if (known) known.bytes = bytes;
    else bodies.set(request, { user, bytes, hasSlot: false, isParsed: false });
    return undefined;
  }

  function wait(body: Body): Promise<void> {
    const { user } = body;
    return new Promise((resolve) => {
      user.waiting.push(() => {
        body.hasSlot = true;
        resolve();
      });
      if (!user.isActive && user.waiting.length === 1) ready.add(user.id, user);
      beginNext();
    });
  }

  function beginNext(): void {
    while (parsing < PARSING_MAX) {
      const user = ready.shift();
      if (!user) return;
      user.isActive = true;
      parsing += 1;
      user.waiting.shift()?.();
    }
  }

  function endParsing(body: Body | undefined): void {
    if (!body?.hasSlot || body.isParsed) return;
    body.isParsed = true;
    parsing -= 1;
    // In a later tick: requests that arrived in the meantime go first.
    setImmediate(beginNext);
  }

  function end(request: Request): void {
    const body = bodies.get(request);
    if (!body) return;
    bodies.delete(request);
    endParsing(body);
    const { user, bytes, hasSlot } = body;
    user.bytes -= bytes;
    reservedBytes -= bytes;
    if (user.bytes === 0) users.delete(user.id);
    if (hasSlot) {
      user.isActive = false;
      if (user.waiting.length > 0) ready.add(user.id, user);
      setImmediate(beginNext);
    }
    // This body's copies are in the young generation. Collecting that takes about 1 ms; a full collection, 100 ms.
    setImmediate(edenGC);
  }

  return ({ takesLargeBody, waitsForModel }) => {
    if (!takesLargeBody) return undefined;
    return {
      onBytes(request, caller, bytes) {
        // Public routes have no large bodies: without a user there is no turn.
        return bytes > SMALL_BODY_BYTES_MAX && caller ? reserve(request, caller.user.id, bytes) : undefined;
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
      // Also called for error responses.
      mapResponse: ({ request }) => {
        end(request);
        return undefined;
      },
    };
  };
}
