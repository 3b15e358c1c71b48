import type { Caller } from "../../access/caller.ts";
import type { OpenStream, OpenStreams, StreamEnd } from "../../access/open-streams.ts";

/** A request in progress. It ends with its credential, and with write access to its conversation. */
export type RunningRequest = OpenStream & {
  /** Aborts the model. */
  abort: AbortController;
  /** Why it was stopped early, for its client. */
  stopped: StreamEnd | null;
};

/** The requests in progress on one instance. */
export function createRunningRequests(openStreams: Pick<OpenStreams, "add">) {
  const running = new Map<RunningRequest, () => void>();

  return {
    /** @param conversationId the conversation that stores it; null: none. */
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

    /** Aborts all of them, at shutdown. */
    abortAll(): void {
      for (const { abort } of running.keys()) abort.abort();
    },
  };
}
