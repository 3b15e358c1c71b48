import type { Caller } from "../../access/caller.ts";
import type { OpenStream, OpenStreams, StreamEnd } from "../../access/open-streams.ts";

/** A request that is being answered. It ends with its credential, and with the right to write in its conversation. */
export type RunningRequest = OpenStream & {
  /** Ends the model's work. */
  abort: AbortController;
  /** Why it was stopped before its end, as its client is told. */
  stopped: StreamEnd | null;
};

/** What one instance answers. */
export function createRunningRequests(openStreams: Pick<OpenStreams, "add">) {
  const running = new Map<RunningRequest, () => void>();

  return {
    /** @param conversationId the conversation that it is stored in; null: none. */
    add(caller: Caller, conversationId: string | null): RunningRequest {
      const request: RunningRequest = {
        caller,
        conversationId: conversationId?.toLowerCase() ?? null,
        isWriting: true,
        abort: new AbortController(),
        stopped: null,
        end(why) {
          request.stopped ??= why;
          request.abort.abort();
        },
      };
      running.set(request, openStreams.add(request));
      return request;
    },

    remove(request: RunningRequest): void {
      running.get(request)?.();
      running.delete(request);
    },

    count: (): number => running.size,

    /** Ends all of them, as a shutdown does. */
    abortAll(): void {
      for (const { abort } of running.keys()) abort.abort();
    },
  };
}
