import type { Caller } from "../access/caller.ts";
import type { ReadQueue } from "../limits/read-queue.ts";
import { isExpensive } from "./expensive-reads.ts";
import type { RoutePlugin } from "./mount.ts";

/**
 * Creates the plugin that queues a user's concurrent reads after validation. Expensive reads have their own slots
 * (expensive-reads.ts), so they don't block the user's other reads.
 */
export function createReadQueue({ limits }: { limits: { reads: ReadQueue } }): RoutePlugin {
  const startedRequests = new WeakSet<Request>();

  function startRead(request: Request, userId: string): Promise<undefined> | undefined {
    const turn = limits.reads.start(userId);
    if (turn) return turn.then(() => void startedRequests.add(request)) as Promise<undefined>;
    startedRequests.add(request);
    return undefined;
  }

  function finishRead(request: Request, caller: Caller): undefined {
    if (startedRequests.delete(request)) limits.reads.finish(caller.user.id);
  }

  return ({ method, public: isPublic, expensive }) => {
    if (method !== "GET" || isPublic) return undefined;
    // Elysia reads the source text of these two functions to see which context fields they use.
    return {
      beforeHandle: ({ request, caller }) =>
        isExpensive(expensive, request) ? undefined : startRead(request, caller.user.id),
      mapResponse: ({ request, caller }) => finishRead(request, caller),
    };
  };
}
