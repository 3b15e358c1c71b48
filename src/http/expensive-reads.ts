import type { Slots } from "../limits/slots.ts";
import type { RoutePlugin } from "./mount.ts";
import { readUrl } from "./request-url.ts";
import type { ExpensiveRead } from "./route.ts";

type Dependencies = { limits: { expensiveReads: Slots; exports: Slots } };

/**
 * For routes that declare an expensive read: a user has a few places for them on this instance. A place is taken when the
 * inputs have been checked, and given back when there is an answer; of a download, when its stream has ended, or its reader
 * has gone.
 */
export function createExpensiveReads({ limits }: Dependencies): RoutePlugin {
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

  return ({ expensive }) => {
    if (!expensive) return undefined;
    const isDownload = expensive === "download";
    // The framework reads in the texts of these two what they use.
    return {
      beforeHandle: ({ request, caller }) => {
        if (!isExpensive(expensive, request)) return;
        take(request, caller.user.id, isDownload);
      },
      mapResponse: ({ request, responseValue }) => {
        if (!taken.has(request)) return;
        if (isDownload && responseValue instanceof Response && responseValue.body)
          return Promise.resolve(watchEnd(responseValue, responseValue.body, request, () => release(request)));
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

/** The same response; `onEnd` is called when its body has ended, failed, or is not read any more. */
function watchEnd(response: Response, body: ReadableStream<Uint8Array>, request: Request, onEnd: () => void): Response {
  const reader = body.getReader();
  request.signal.addEventListener("abort", onEnd, { once: true });
  // Gone before it came here.
  if (request.signal.aborted) onEnd();
  const watched = new ReadableStream<Uint8Array>({
    async pull(controller) {
      try {
        const { value, done } = await reader.read();
        if (!done) return controller.enqueue(value);
        onEnd();
        controller.close();
      } catch {
        onEnd();
        // Without the error, which Bun would print as it is.
        controller.error();
      }
    },
    async cancel(reason) {
      onEnd();
      await reader.cancel(reason);
    },
  });
  return new Response(watched, response);
}
