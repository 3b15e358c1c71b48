import type { Caller } from "../../access/caller.ts";
import type { OpenStream, OpenStreams, StreamEnd } from "../../access/open-streams.ts";

/**
 * A request in progress. It is aborted when its credential is no longer valid, or write access to its conversation is
 * lost.
 */
export type RunningRequest = OpenStream & {
  /** Aborts the call of the model. */
  abort: AbortController;
  /** Why the request was aborted, for the client; null if it wasn't. */
  streamEnd: StreamEnd | null;
};

/** Keeps track of the requests in progress on this instance. */
export function createRunningRequests(openStreams: Pick<OpenStreams, "add">) {
  const running = new Map<RunningRequest, () => void>();

  return {
    /** @param conversationId the conversation in which the exchange is stored, if any. */
    add(caller: Caller, conversationId: string | null): RunningRequest {
      const request: RunningRequest = {
        caller,
        conversationId: conversationId?.toLowerCase() ?? null,
        isWriting: true,
        abort: new AbortController(),
        streamEnd: null,
        end(reason) {
          request.streamEnd ??= reason;
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

    /** Aborts all requests, at shutdown. */
    abortAll(): void {
      for (const { abort } of running.keys()) abort.abort();
    },
  };
}
