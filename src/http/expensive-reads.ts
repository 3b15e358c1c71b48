import type { Caller } from "../access/caller.ts";
import type { OpenStreams } from "../access/open-streams.ts";
import type { Slots } from "../limits/slots.ts";
import type { RoutePlugin } from "./mount.ts";
import { readUrl } from "./request-url.ts";
import type { ExpensiveRead } from "./route.ts";

type Dependencies = { limits: { expensiveReads: Slots; exports: Slots }; openStreams: Pick<OpenStreams, "add"> };

/** Routes below it are about one conversation: a download there ends with the membership. */
const CONVERSATION = "/api/v1/conversations/:id/";

/**
 * For routes that declare an expensive read: a user has a few places for them on this instance. A place is taken when the
 * inputs have been checked, and given back when there is an answer; of a download, when its stream has ended, or its reader
 * has gone. A download is an open stream of its caller: without access it is broken off, so that it can't pass for whole.
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

  /** @param conversationId null: it depends on none. */
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
    // The framework reads in the texts of these two what they use.
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

/** Whether a request of a route that declares this is expensive. Whichever of several `q` the handler takes. */
export const isExpensive = (declared: ExpensiveRead | undefined, request: Request): boolean =>
  declared === "search"
    ? new URLSearchParams(readUrl(request).search).getAll("q").some((q) => q.trim() !== "")
    : declared !== undefined;

/**
 * The same response.
 * @param onEnd called when its body has ended, failed, was broken off, or is not read any more.
 */
function watchEnd(response: Response, body: ReadableStream<Uint8Array>, request: Request, onEnd: () => void) {
  const reader = body.getReader();
  let controller: ReadableStreamDefaultController<Uint8Array> | undefined;
  request.signal.addEventListener("abort", onEnd, { once: true });
  // Gone before it came here; not at once, so that the caller has what is returned.
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
        // Without the error, which Bun would print as it is.
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
      // A body that is broken off is not complete for any client: the last chunk is missing.
      controller?.error();
      reader.cancel().catch(() => {});
    },
  };
}
