import type { Caller } from "../access/caller.ts";
import type { ReadTurns } from "../limits/read-turns.ts";
import { isExpensive } from "./expensive-reads.ts";
import type { RoutePlugin } from "./mount.ts";

/**
 * Reads of one user take turns, once their inputs have been checked; a turn ends when there is an answer. Expensive reads have
 * places of their own (expensive-reads.ts), so that the user's others go on beside them.
 */
export function createReadTurns({ limits }: { limits: { reads: ReadTurns } }): RoutePlugin {
  const begun = new WeakSet<Request>();

  function begin(request: Request, userId: string): Promise<undefined> | undefined {
    const turn = limits.reads.begin(userId);
    if (turn) return turn.then(() => void begun.add(request)) as Promise<undefined>;
    begun.add(request);
    return undefined;
  }

  function end(request: Request, caller: Caller): undefined {
    if (begun.delete(request)) limits.reads.end(caller.user.id);
  }

  return ({ method, public: isPublic, expensive }) => {
    if (method !== "GET" || isPublic) return undefined;
    // The framework reads in the texts of these two what they use.
    return {
      beforeHandle: ({ request, caller }) =>
        isExpensive(expensive, request) ? undefined : begin(request, caller.user.id),
      mapResponse: ({ request, caller }) => end(request, caller),
    };
  };
}
