import type { PauseSignal } from "../pause-signal.ts";
import type { ProviderEnd, ProviderPart, PushPart } from "../provider.ts";
import { createProviderError } from "../provider-error.ts";

export type WatchdogOptions = {
  signal: AbortSignal;
  /** Paused time doesn't count. */
  pause: PauseSignal;
  /** Longest silence before the first text, tool call or reasoning. Any byte of the response resets it. */
  firstTokenTimeoutMs: number;
  /** Longest silence after that. */
  idleTimeoutMs: number;
  /** Deadline of the whole answer, on the clock of `performance.now()`. Pauses count. */
  endsAtMs: number;
};

/** `expired`: the deadline of the whole answer has passed. */
export type WatchEnd = ProviderEnd | { type: "aborted" | "expired" };

/** Receives a part. A returned end ends the stream, so the model stops writing. */
export type OnProviderPart = (part: ProviderPart) => ProviderEnd | undefined;

/**
 * Supervises a provider's stream: a silence beyond the timeout becomes an error, as does anything thrown. When the signal
 * aborts, or the stream ends otherwise, it resolves immediately, even if the provider doesn't; no part is delivered after
 * that.
 */
export function watch(
  open: (signal: AbortSignal, push: PushPart<ProviderPart>) => Promise<ProviderEnd>,
  { signal, pause, firstTokenTimeoutMs, idleTimeoutMs, endsAtMs }: WatchdogOptions,
  onPart: OnProviderPart,
): Promise<WatchEnd> {
  return new Promise((resolve) => {
    const controller = new AbortController();
    let hasStarted = false;
    let isOver = false;
    let silentSinceMs = performance.now();

    const end = (how: WatchEnd) => {
      if (isOver) return;
      isOver = true;
      clearTimeout(timer);
      signal.removeEventListener("abort", onAbort);
      unlisten();
      resolve(how);
    };
    /** Aborts a provider that hasn't ended on its own; it then closes its connection. */
    const endAndAbort = (how: WatchEnd) => {
      if (isOver) return;
      end(how);
      controller.abort();
    };
    const fail = (error: unknown) => {
      const cause = `thrown by the provider: ${error instanceof Error ? error.message : "unknown error"}`;
      endAndAbort({ type: "error", error: createProviderError("provider_unavailable", cause) });
    };
    const push = (part: ProviderPart) => {
      if (isOver) return;
      if (part.type !== "usage" && part.type !== "activity") hasStarted = true;
      silentSinceMs = performance.now();
      const earlyEnd = onPart(part);
      if (earlyEnd) endAndAbort(earlyEnd);
    };
    // One timer per stream that checks when due, instead of one that is reset for each part.
    const onTimer = () => {
      const nowMs = performance.now();
      if (nowMs >= endsAtMs) return endAndAbort({ type: "expired" });
      const limitMs = hasStarted ? idleTimeoutMs : firstTokenTimeoutMs;
      const leftMs = silentSinceMs + limitMs - nowMs;
      if (!pause.isPaused && leftMs <= 0) {
        const cause = hasStarted ? `silent for ${limitMs} ms` : `no first token within ${limitMs} ms`;
        return endAndAbort({ type: "error", error: createProviderError("provider_timeout", cause) });
      }
      // Before the first token the idle timeout may start at any time; while paused, neither timeout runs.
      const checkInMs = pause.isPaused ? limitMs : Math.min(leftMs, idleTimeoutMs);
      timer = setTimeout(onTimer, Math.min(checkInMs, endsAtMs - nowMs));
    };
    const onAbort = () => endAndAbort({ type: "aborted" });
    const unlisten = pause.listen(() => {
      silentSinceMs = performance.now();
    });
    let timer = setTimeout(onTimer, Math.min(firstTokenTimeoutMs, idleTimeoutMs, endsAtMs - silentSinceMs));
    signal.addEventListener("abort", onAbort, { once: true });
    if (signal.aborted) return onAbort();
    try {
      open(controller.signal, push).then(end, fail);
    } catch (error) {
      fail(error);
    }
  });
}
