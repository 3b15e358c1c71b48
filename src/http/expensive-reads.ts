import type { Caller } from "../access/caller.ts";
import type { OpenStreams } from "../access/open-streams.ts";
import type { Slots } from "../limits/slots.ts";
import type { RoutePlugin } from "./mount.ts";
import { parseRequestUrl } from "./request-url.ts";
import type { ExpensiveRead } from "./route.ts";

type Dependencies = { limits: { expensiveReads: Slots; exports: Slots }; openStreams: Pick<OpenStreams, "add"> };

/** Downloads below this path are aborted when the caller is removed from the conversation. */
const CONVERSATION_PATH_PREFIX = "/api/v1/conversations/:id/";

/**
 * Creates the plugin that limits how many expensive reads a user may run concurrently on this instance. A slot is acquired
 * after validation and released with the response. A download's slot is released when its stream ends or the client
 * disconnects. If the caller loses access, the download fails with an error, so that clients notice that it is incomplete.
 */
export function createExpensiveReadLimiter({ limits, openStreams }: Dependencies): RoutePlugin {
  const releaseCallbacks = new WeakMap<Request, () => void>();

  function acquireBothSlots(userId: string): () => void {
    const releaseExport = limits.exports.acquire(userId);
    try {
      const release = limits.expensiveReads.acquire(userId);
      return () => {
        release();
        releaseExport();
      };
    } catch (error) {
      releaseExport();
      throw error;
    }
  }

  function acquireSlot(request: Request, userId: string, isDownload: boolean): undefined {
    releaseCallbacks.set(request, isDownload ? acquireBothSlots(userId) : limits.expensiveReads.acquire(userId));
  }

  function releaseSlot(request: Request): void {
    releaseCallbacks.get(request)?.();
    releaseCallbacks.delete(request);
  }

  /** Releases the slot when the download ends. @param conversationId null if the download doesn't belong to a conversation. */
  function trackDownload(
    request: Request,
    response: Response,
    caller: Caller,
    conversationId: string | null,
  ): Response {
    if (!response.body) return response;
    const download = wrapBody(response, response.body, request, () => {
      releaseSlot(request);
      removeStream();
    });
    const removeStream = openStreams.add({ caller, conversationId, end: download.abort });
    return download.response;
  }

  return ({ expensive, path }) => {
    if (!expensive) return undefined;
    const isDownload = expensive === "download";
    const belongsToConversation = path.startsWith(CONVERSATION_PATH_PREFIX);
    // Elysia reads the source text of these two functions to see which context fields they use.
    return {
      beforeHandle: ({ request, caller }) => {
        if (!isExpensive(expensive, request)) return;
        acquireSlot(request, caller.user.id, isDownload);
      },
      mapResponse: ({ request, caller, params, responseValue }) => {
        if (!releaseCallbacks.has(request)) return;
        if (isDownload && responseValue instanceof Response && responseValue.body)
          return Promise.resolve(
            trackDownload(
              request,
              responseValue,
              caller,
              belongsToConversation ? (params.id?.toLowerCase() ?? null) : null,
            ),
          );
        releaseSlot(request);
        return;
      },
    };
  };
}

/** Whether a request to a route with this declaration is expensive. A search is expensive if a `q` parameter is set. */
export const isExpensive = (declaration: ExpensiveRead | undefined, request: Request): boolean =>
  declaration === "search"
    ? new URLSearchParams(parseRequestUrl(request).search).getAll("q").some((q) => q.trim() !== "")
    : declaration !== undefined;

/**
 * Wraps a response's body.
 * @param onEnd called when the body has ended, failed or been aborted, or the client has disconnected.
 */
function wrapBody(response: Response, body: ReadableStream<Uint8Array>, request: Request, onEnd: () => void) {
  const reader = body.getReader();
  let controller: ReadableStreamDefaultController<Uint8Array> | undefined;
  request.signal.addEventListener("abort", onEnd, { once: true });
  // Deferred, so that the caller has the return value before `onEnd` runs.
  if (request.signal.aborted) queueMicrotask(onEnd);
  const trackedBody = new ReadableStream<Uint8Array>({
    start(streamController) {
      controller = streamController;
    },
    async pull(streamController) {
      try {
        const { value, done } = await reader.read();
        if (!done) return streamController.enqueue(value);
        onEnd();
        streamController.close();
      } catch {
        onEnd();
        // The error isn't passed on, because Bun would print it.
        streamController.error();
      }
    },
    async cancel(reason) {
      onEnd();
      await reader.cancel(reason);
    },
  });
  return {
    response: new Response(trackedBody, response),
    abort(): void {
      onEnd();
      // Omits the last chunk, so that clients detect the incomplete body.
      controller?.error();
      reader.cancel().catch(() => {});
    },
  };
}
