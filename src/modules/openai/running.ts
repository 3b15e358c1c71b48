import type { Caller } from "../../access/caller.ts";
import type { OpenStream, OpenStreams, StreamEnd } from "../../access/open-streams.ts";

/** A request in progress. It is aborted when its credential becomes invalid, or the caller loses write access to the conversation. */
export type RunningRequest = OpenStream & {
  /** Aborts the model's response. */
  abortController: AbortController;
  /** The reason why the request was aborted, for the client; null if it wasn't. */
  streamEnd: StreamEnd | null;
};

/** Creates a registry of the requests in progress on this instance. */
export function createRequestRegistry(openStreams: Pick<OpenStreams, "add">) {
  /** The requests, each with the function that unregisters its open stream. */
  const unregisterByRequest = new Map<RunningRequest, () => void>();

  return {
    /** Adds a request. @param conversationId the conversation in which the exchange is stored; null if it isn't stored. */
    add(caller: Caller, conversationId: string | null): RunningRequest {
      const request: RunningRequest = {
        caller,
        conversationId: conversationId?.toLowerCase() ?? null,
        isWriting: true,
        abortController: new AbortController(),
        streamEnd: null,
        end(reason) {
          request.streamEnd ??= reason;
          request.abortController.abort();
        },
      };
      unregisterByRequest.set(request, openStreams.add(request));
      return request;
    },

    remove(request: RunningRequest): void {
      unregisterByRequest.get(request)?.();
      unregisterByRequest.delete(request);
    },

    count: (): number => unregisterByRequest.size,

    /** Aborts all requests during shutdown. */
    abortAll(): void {
      for (const { abortController } of unregisterByRequest.keys()) abortController.abort();
    },
  };
}
