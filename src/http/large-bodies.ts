import { edenGC } from "bun:jsc";
import { Problem } from "../lib/problem.ts";
import { Ring } from "../lib/ring.ts";
import { SMALL_BODY_BYTES_MAX } from "./body.ts";
import type { RoutePlugin } from "./mount.ts";

/** Maximum number of large bodies that are parsed concurrently. Each belongs to a different user. */
const PARSING_MAX = 4;
/** Maximum memory for a user's large request bodies, from their arrival to the response. */
const USER_BYTES_MAX = 16 * 1024 * 1024;
/** Maximum memory for all users' large request bodies, from their arrival to the response. */
const BYTES_MAX = 128 * 1024 * 1024;
const RETRY_AFTER_MS = 1_000;
/** Delay before a rejection, so that clients that retry immediately don't send too many bodies. */
const REJECTION_DELAY_MS = 1_000;

async function rejectAfterDelay(code: "rate_limited" | "overloaded", detail: string): Promise<never> {
  await Bun.sleep(REJECTION_DELAY_MS);
  throw new Problem(code, detail, { retryAfterMs: RETRY_AFTER_MS });
}

type User = { id: string; bytes: number; isActive: boolean; waiting: (() => void)[] };
type Body = { user: User; bytes: number; hasSlot: boolean; isParsed: boolean };

/**
 * Creates the plugin that schedules large bodies. Parsing a megabyte of JSON blocks the event loop for up to 20 ms and needs
 * several times its size in memory. Therefore, only a few bodies are parsed concurrently, and only one per user.
 *
 * A complete body waits for a parsing slot, which is released when the handler starts. The user's next body has to wait until
 * the response, so that the user's parsed bodies aren't all in memory at the same time.
 *
 * A body counts towards the memory limits as soon as it starts to arrive. A user may use at most as much memory as remains free
 * (see `FairQueue`), so a single user can use at most half of it.
 */
export function createLargeBodyScheduler(): RoutePlugin {
  const users = new Map<string, User>();
  const bodies = new WeakMap<Request, Body>();
  /** Users with waiting bodies but no active one, in queue order. */
  const readyUsers = new Ring<string, User>();
  let parsingCount = 0;
  let reservedBytes = 0;

  /** Reserves memory. Returns a rejection if this user (`rate_limited`) or all users (`overloaded`) use too much. */
  function reserveMemory(request: Request, userId: string, bytes: number): Promise<never> | undefined {
    const existingBody = bodies.get(request);
    const user = existingBody?.user ?? users.get(userId) ?? { id: userId, bytes: 0, isActive: false, waiting: [] };
    const addedBytes = bytes - (existingBody?.bytes ?? 0);
    if (user.bytes + addedBytes > USER_BYTES_MAX)
      return rejectAfterDelay("rate_limited", "Too many of your large requests are in progress. Send fewer at a time.");
    if (user.bytes + addedBytes > BYTES_MAX - reservedBytes)
      return rejectAfterDelay("overloaded", "Too many large requests are in progress. Try again.");
    users.set(user.id, user);
    user.bytes += addedBytes;
    reservedBytes += addedBytes;
    if (existingBody) existingBody.bytes = bytes;
    else bodies.set(request, { user, bytes, hasSlot: false, isParsed: false });
    return undefined;
  }

  function waitForSlot(body: Body): Promise<void> {
    const { user } = body;
    return new Promise((resolve) => {
      user.waiting.push(() => {
        body.hasSlot = true;
        resolve();
      });
      if (!user.isActive && user.waiting.length === 1) readyUsers.add(user.id, user);
      startNext();
    });
  }

  function startNext(): void {
    while (parsingCount < PARSING_MAX) {
      const user = readyUsers.shift();
      if (!user) return;
      user.isActive = true;
      parsingCount += 1;
      user.waiting.shift()?.();
    }
  }

  function releaseSlot(body: Body | undefined): void {
    if (!body?.hasSlot || body.isParsed) return;
    body.isParsed = true;
    parsingCount -= 1;
    // Deferred, so that pending requests are processed first.
    setImmediate(startNext);
  }

  function finishRequest(request: Request): void {
    const body = bodies.get(request);
    if (!body) return;
    bodies.delete(request);
    releaseSlot(body);
    const { user, bytes, hasSlot } = body;
    user.bytes -= bytes;
    reservedBytes -= bytes;
    if (user.bytes === 0) users.delete(user.id);
    if (hasSlot) {
      user.isActive = false;
      if (user.waiting.length > 0) readyUsers.add(user.id, user);
      setImmediate(startNext);
    }
    // Frees this body's copies. Collecting only the young generation takes about 1 ms; a full collection takes 100 ms.
    setImmediate(edenGC);
  }

  return ({ acceptsLargeBody, waitsForModel }) => {
    if (!acceptsLargeBody) return undefined;
    return {
      onBytes(request, caller, bytes) {
        // Public routes, which have no caller, don't accept large bodies.
        return bytes > SMALL_BODY_BYTES_MAX && caller ? reserveMemory(request, caller.user.id, bytes) : undefined;
      },
      onBody(request) {
        const body = bodies.get(request);
        return body && waitForSlot(body);
      },
      beforeHandle: ({ request }) => {
        if (waitsForModel) finishRequest(request);
        else releaseSlot(bodies.get(request));
        return undefined;
      },
      // Runs for error responses too.
      mapResponse: ({ request }) => {
        finishRequest(request);
        return undefined;
      },
    };
  };
}
