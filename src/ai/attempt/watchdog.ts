import type { PauseSignal } from "../pause-signal.ts";
import type { ProviderEnd, ProviderPart, PushPart } from "../provider.ts";
import { createProviderError } from "../provider-error.ts";

export type WatchdogOptions = {
  signal: AbortSignal;
  /** Pauses the timeouts, but not the deadline. */
  pause: PauseSignal;
  /** Timeout until the first text, tool call or reasoning. Restarts with each byte of the response. */
  firstTokenTimeoutMs: number;
  /** Timeout after the first text, tool call or reasoning. Restarts with each byte of the response. */
  idleTimeoutMs: number;
  /** Deadline of the whole answer, on the clock of `performance.now()`. */
  deadlineMs: number;
};

/** `expired`: the deadline of the whole answer has passed. */
export type WatchEnd = ProviderEnd | { type: "aborted" | "expired" };

/** Receives a part. Returning an end stops the stream with that end. */
export type OnProviderPart = (part: ProviderPart) => ProviderEnd | undefined;

/**
 * Supervises a provider's stream. Never rejects: a timeout or an exception resolves with an error. When the signal aborts or a
 * timeout expires, it resolves immediately, without waiting for the provider. After that, it delivers no more parts.
 */
export function watchStream(
  openStream: (signal: AbortSignal, push: PushPart<ProviderPart>) => Promise<ProviderEnd>,
  { signal, pause, firstTokenTimeoutMs, idleTimeoutMs, deadlineMs }: WatchdogOptions,
  onPart: OnProviderPart,
): Promise<WatchEnd> {
  return new Promise((resolve) => {
    const controller = new AbortController();
    let hasStarted = false;
    let isFinished = false;
    let lastActivityMs = performance.now();

    const finish = (streamEnd: WatchEnd) => {
      if (isFinished) return;
      isFinished = true;
      clearTimeout(timer);
      signal.removeEventListener("abort", onAbort);
      stopListening();
      resolve(streamEnd);
    };
    /** Finishes, and aborts the provider, which then closes its connection. */
    const finishAndAbort = (streamEnd: WatchEnd) => {
      if (isFinished) return;
      finish(streamEnd);
      controller.abort();
    };
    const fail = (error: unknown) => {
      const cause = `thrown by the provider: ${error instanceof Error ? error.message : "unknown error"}`;
      finishAndAbort({ type: "error", error: createProviderError("provider_unavailable", cause) });
    };
    const push = (part: ProviderPart) => {
      if (isFinished) return;
      if (part.type !== "usage" && part.type !== "activity") hasStarted = true;
      lastActivityMs = performance.now();
      const earlyEnd = onPart(part);
      if (earlyEnd) finishAndAbort(earlyEnd);
    };
    // The timer isn't reset for each part, because checking the time when it fires costs less.
    const onTimer = () => {
      const nowMs = performance.now();
      if (nowMs >= deadlineMs) return finishAndAbort({ type: "expired" });
      const limitMs = hasStarted ? idleTimeoutMs : firstTokenTimeoutMs;
      const remainingMs = lastActivityMs + limitMs - nowMs;
      if (!pause.isPaused && remainingMs <= 0) {
        const cause = hasStarted ? `silent for ${limitMs} ms` : `no first token within ${limitMs} ms`;
        return finishAndAbort({ type: "error", error: createProviderError("provider_timeout", cause) });
      }
      // Once the first token arrives, the idle timeout applies, which may expire before the current timeout.
      const checkInMs = pause.isPaused ? limitMs : Math.min(remainingMs, idleTimeoutMs);
      timer = setTimeout(onTimer, Math.min(checkInMs, deadlineMs - nowMs));
    };
    const onAbort = () => finishAndAbort({ type: "aborted" });
    const stopListening = pause.listen(() => {
      lastActivityMs = performance.now();
    });
    let timer = setTimeout(onTimer, Math.min(firstTokenTimeoutMs, idleTimeoutMs, deadlineMs - lastActivityMs));
    signal.addEventListener("abort", onAbort, { once: true });
    if (signal.aborted) return onAbort();
    try {
      openStream(controller.signal, push).then(finish, fail);
    } catch (error) {
      fail(error);
    }
  });
}
