import type { Caller } from "../access/caller.ts";
import type { ReadQueue } from "../limits/read-queue.ts";
import { isExpensive } from "./expensive-reads.ts";
import type { RoutePlugin } from "./mount.ts";

/**
 * Creates the plugin that queues a user's concurrent reads after validation. Expensive reads have their own slots
 * (expensive-reads.ts), so they don't block the user's other reads.
 */
export function createReadQueue({ limits }: { limits: { reads: ReadQueue } }): RoutePlugin {
  const started = new WeakSet<Request>();

  function begin(request: Request, userId: string): Promise<undefined> | undefined {
    const waiting = limits.reads.begin(userId);
    if (waiting) return waiting.then(() => void started.add(request)) as Promise<undefined>;
    started.add(request);
    return undefined;
  }

  function end(request: Request, caller: Caller): undefined {
    if (started.delete(request)) limits.reads.end(caller.user.id);
  }

  return ({ method, public: isPublic, expensive }) => {
    if (method !== "GET" || isPublic) return undefined;
    // Elysia reads the source text of these two functions to see which context fields they use.
    return {
      beforeHandle: ({ request, caller }) =>
        isExpensive(expensive, request) ? undefined : begin(request, caller.user.id),
      mapResponse: ({ request, caller }) => end(request, caller),
    };
  };
}
