import type { PauseSignal } from "../pause-signal.ts";
import type { ProviderEnd, ProviderPart, PushPart } from "../provider.ts";
import { createProviderError } from "../provider-error.ts";

export type WatchdogOptions = {
  signal: AbortSignal;
  /** The time during which the reader holds the answer back does not count. */
  pause: PauseSignal;
  /** Longest silence before the first text, tool call or sign of thinking; every byte of the response ends a silence. */
  firstTokenTimeoutMs: number;
  /** Longest silence after that. */
  idleTimeoutMs: number;
  /** When the whole answer has to end, as `performance.now()` counts. Pauses count. */
  endsAtMs: number;
};

/** `expired`: the time of the whole answer is over. */
export type WatchEnd = ProviderEnd | { type: "aborted" | "expired" };

/** Takes a part; an end that it gives ends the stream: the model is to write no more. */
export type TakeProviderPart = (part: ProviderPart) => ProviderEnd | undefined;

/**
 * Watches over a provider's stream: silence for too long becomes an error, and so does whatever is thrown. Aborted by the
 * signal, or ended in any other way, it fulfils at once, even when the provider does not; after that no part is taken.
 */
export function watch(
  open: (signal: AbortSignal, push: PushPart<ProviderPart>) => Promise<ProviderEnd>,
  { signal, pause, firstTokenTimeoutMs, idleTimeoutMs, endsAtMs }: WatchdogOptions,
  take: TakeProviderPart,
): Promise<WatchEnd> {
  return new Promise((resolve) => {
    const controller = new AbortController();
    let hasBegun = false;
    let isOver = false;
    let quietSinceMs = performance.now();

    const end = (how: WatchEnd) => {
      if (isOver) return;
      isOver = true;
      clearTimeout(timer);
      signal.removeEventListener("abort", onAbort);
      unlisten();
      resolve(how);
    };
    /** Ends what the provider has not ended by itself: then it may let go of the connection in its own way. */
    const cut = (how: WatchEnd) => {
      if (isOver) return;
      end(how);
      controller.abort();
    };
    const fail = (error: unknown) => {
      const cause = `thrown by the provider: ${error instanceof Error ? error.message : "unknown error"}`;
      cut({ type: "error", error: createProviderError("provider_unavailable", cause) });
    };
    const push = (part: ProviderPart) => {
      if (isOver) return;
      if (part.type !== "usage" && part.type !== "activity") hasBegun = true;
      quietSinceMs = performance.now();
      const early = take(part);
      if (early) cut(early);
    };
    // One timer for the whole stream, which looks when it is due instead of being set anew for each part.
    const onTimer = () => {
      const nowMs = performance.now();
      if (nowMs >= endsAtMs) return cut({ type: "expired" });
      const limitMs = hasBegun ? idleTimeoutMs : firstTokenTimeoutMs;
      const leftMs = quietSinceMs + limitMs - nowMs;
      if (!pause.isPaused && leftMs <= 0) {
        const cause = hasBegun ? `silent for ${limitMs} ms` : `no first token in ${limitMs} ms`;
        return cut({ type: "error", error: createProviderError("provider_timeout", cause) });
      }
      // Before the first token the other limit may begin at any time; while the reader holds the answer back none runs.
      const lookMs = pause.isPaused ? limitMs : Math.min(leftMs, idleTimeoutMs);
      timer = setTimeout(onTimer, Math.min(lookMs, endsAtMs - nowMs));
    };
    const onAbort = () => cut({ type: "aborted" });
    const unlisten = pause.listen(() => {
      quietSinceMs = performance.now();
    });
    let timer = setTimeout(onTimer, Math.min(firstTokenTimeoutMs, idleTimeoutMs, endsAtMs - quietSinceMs));
    signal.addEventListener("abort", onAbort, { once: true });
    if (signal.aborted) return onAbort();
    try {
      open(controller.signal, push).then(end, fail);
    } catch (error) {
      fail(error);
    }
  });
}
