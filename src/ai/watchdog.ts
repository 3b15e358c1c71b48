import type { PartStream, StreamPart } from "./provider.ts";
import { createProviderError } from "./provider-error.ts";

export type WatchdogOptions = {
  signal: AbortSignal;
  /** From the request to the first text, tool call or sign of thinking. */
  firstTokenTimeoutMs: number;
  /** Between two such parts. Time that the consumer takes does not count. */
  idleTimeoutMs: number;
  /** Takes a text at once while a reader waits in `next`; false: it is to come from there. */
  takeText?(text: string): boolean;
};

export type WatchedStream = {
  /** The next part; null when the stream is over or was aborted. Never rejects. */
  next(): Promise<StreamPart | null>;
  /** Ends the stream at the provider, unless it has ended; to be called in any case. */
  close(): void;
};

/**
 * Watches over a provider's stream: silence for too long becomes an error part, and so does whatever is thrown. Aborted
 * by the signal, it ends at once, even when the provider does not. No generator, since this stands in the way of every
 * token; and no `Promise.race`, which would pile up on a long-lived promise.
 */
export function watch(
  open: (signal: AbortSignal) => PartStream,
  { signal, firstTokenTimeoutMs, idleTimeoutMs, takeText }: WatchdogOptions,
): WatchedStream {
  const controller = new AbortController();
  let iterator: AsyncIterator<StreamPart> | null = null;
  let hasBegun = false;
  let hasLastPart = false;
  let isOver = false;
  let quietSinceMs = performance.now();
  let answer: ((part: StreamPart | null) => void) | null = null;

  const close = () => {
    if (isOver) return;
    isOver = true;
    clearTimeout(timer);
    signal.removeEventListener("abort", onAbort);
    // After its last part the provider may let go of the connection in its own way.
    if (!hasLastPart) controller.abort();
    // Not awaited: a provider that hangs in its clean-up must not hold the answer.
    iterator?.return?.().catch(() => {});
  };
  const end = (part: StreamPart | null) => {
    if (isOver) return;
    close();
    answer?.(part);
  };
  const fail = (error: unknown) => {
    const cause = `thrown by the provider: ${error instanceof Error ? error.message : "unknown error"}`;
    end({ type: "error", error: createProviderError("provider_unavailable", cause) });
  };
  const onAbort = () => end(null);
  const onNext = ({ done, value }: IteratorResult<StreamPart>) => {
    if (isOver) return;
    if (done) return end(null);
    if (value.type === "text" || value.type === "activity" || value.type === "tool_call") hasBegun = true;
    hasLastPart = value.type === "finish" || value.type === "error";
    const resolve = answer;
    answer = null;
    resolve?.(value);
  };
  const take = (part: StreamPart) => {
    if (isOver || part.type !== "text" || !takeText?.(part.text)) return false;
    hasBegun = true;
    quietSinceMs = performance.now();
    return true;
  };
  const begin = () => {
    const stream = open(controller.signal);
    if (takeText) stream.forward?.(take);
    return stream[Symbol.asyncIterator]();
  };
  // One timer for the whole stream, which looks when it is due instead of being set anew for each part.
  const onTimer = () => {
    const limitMs = hasBegun ? idleTimeoutMs : firstTokenTimeoutMs;
    const leftMs = quietSinceMs + limitMs - performance.now();
    if (answer && leftMs <= 0) {
      const cause = hasBegun ? `silent for ${limitMs} ms` : `no first token in ${limitMs} ms`;
      return end({ type: "error", error: createProviderError("provider_timeout", cause) });
    }
    // Before the first token the other limit may begin at any time; while the consumer is busy none runs.
    timer = setTimeout(onTimer, answer ? Math.min(leftMs, idleTimeoutMs) : limitMs);
  };
  let timer = setTimeout(onTimer, Math.min(firstTokenTimeoutMs, idleTimeoutMs));
  signal.addEventListener("abort", onAbort, { once: true });
  if (signal.aborted) close();

  return {
    next: () =>
      new Promise((resolve) => {
        if (isOver) return resolve(null);
        answer = resolve;
        if (hasBegun) quietSinceMs = performance.now();
        try {
          iterator ??= begin();
          iterator.next().then(onNext, fail);
        } catch (error) {
          fail(error);
        }
      }),
    close,
  };
}
