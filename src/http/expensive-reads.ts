import type { Caller } from "../access/caller.ts";
import type { OpenStreams } from "../access/open-streams.ts";
import type { Slots } from "../limits/slots.ts";
import type { RoutePlugin } from "./mount.ts";
import { readUrl } from "./request-url.ts";
import type { ExpensiveRead } from "./route.ts";

type Dependencies = { limits: { expensiveReads: Slots; exports: Slots }; openStreams: Pick<OpenStreams, "add"> };

/** Routes below this path belong to one conversation: their downloads end when the caller's membership ends. */
const CONVERSATION = "/api/v1/conversations/:id/";

/**
 * For routes that declare an expensive read: limits how many a user runs at the same time on this instance. A slot is taken
 * after validation and released with the response or, for a download, when its stream ends or its reader disconnects. A
 * download is an open stream of its caller: if the caller loses access, it is aborted, so that it can't be mistaken for complete.
 */
export function createExpensiveReads({ limits, openStreams }: Dependencies): RoutePlugin {
  const taken = new WeakMap<Request, () => void>();

  function takeBoth(userId: string): () => void {
    const releaseExport = limits.exports.take(userId);
    try {
      const release = limits.expensiveReads.take(userId);
      return () => {
        release();
        releaseExport();
      };
    } catch (error) {
      releaseExport();
      throw error;
    }
  }

  function take(request: Request, userId: string, isDownload: boolean): undefined {
    taken.set(request, isDownload ? takeBoth(userId) : limits.expensiveReads.take(userId));
  }

  function release(request: Request): void {
    taken.get(request)?.();
    taken.delete(request);
  }

  /** @param conversationId null if the download depends on no conversation. */
  function watch(request: Request, response: Response, caller: Caller, conversationId: string | null): Response {
    if (!response.body) return response;
    const download = watchEnd(response, response.body, request, () => {
      release(request);
      remove();
    });
    const remove = openStreams.add({ caller, conversationId, end: download.breakOff });
    return download.response;
  }

  return ({ expensive, path }) => {
    if (!expensive) return undefined;
    const isDownload = expensive === "download";
    const isOfConversation = path.startsWith(CONVERSATION);
    // Elysia reads the source text of these two functions to see which context fields they use.
    return {
      beforeHandle: ({ request, caller }) => {
        if (!isExpensive(expensive, request)) return;
        take(request, caller.user.id, isDownload);
      },
      mapResponse: ({ request, caller, params, responseValue }) => {
        if (!taken.has(request)) return;
        if (isDownload && responseValue instanceof Response && responseValue.body)
          return Promise.resolve(
            watch(request, responseValue, caller, isOfConversation ? (params.id?.toLowerCase() ?? null) : null),
          );
        release(request);
        return;
      },
    };
  };
}

/** Whether a request to a route with this declaration is expensive, no matter which of several `q` the handler uses. */
export const isExpensive = (declared: ExpensiveRead | undefined, request: Request): boolean =>
  declared === "search"
    ? new URLSearchParams(readUrl(request).search).getAll("q").some((q) => q.trim() !== "")
    : declared !== undefined;

/**
 * Wraps a response without changing it.
 * @param onEnd called when its body ended, failed, was aborted, or its reader disconnected.
 */
function watchEnd(response: Response, body: ReadableStream<Uint8Array>, request: Request, onEnd: () => void) {
  const reader = body.getReader();
  let controller: ReadableStreamDefaultController<Uint8Array> | undefined;
  request.signal.addEventListener("abort", onEnd, { once: true });
  // Already aborted. Deferred, so that the caller has the return value before `onEnd` runs.
  if (request.signal.aborted) queueMicrotask(onEnd);
  const watched = new ReadableStream<Uint8Array>({
    start(created) {
      controller = created;
    },
    async pull(current) {
      try {
        const { value, done } = await reader.read();
        if (!done) return current.enqueue(value);
        onEnd();
        current.close();
      } catch {
        onEnd();
        // Without the error: Bun would print it.
        current.error();
      }
    },
    async cancel(reason) {
      onEnd();
      await reader.cancel(reason);
    },
  });
  return {
    response: new Response(watched, response),
    breakOff(): void {
      onEnd();
      // The last chunk is missing, so every client sees that the body is incomplete.
      controller?.error();
      reader.cancel().catch(() => {});
    },
  };
}
