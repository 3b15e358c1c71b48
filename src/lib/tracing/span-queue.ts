import type { ReadableSpan, SpanProcessor } from "@opentelemetry/sdk-trace";
import { isSampled } from "./tracing.ts";

/** Maximum number of spans per request to the collector. */
const BATCH_SPANS = 512;

export type SpanOutcome = "exported" | "dropped" | "failed";

type Options = {
  /** Maximum number of spans that wait to be sent. Further spans are dropped. */
  spansMax: number;
  /** How long spans are collected before they are sent. */
  delayMs: number;
  /** Sends a batch. Rejects if all attempts failed. Must do nothing after the signal has aborted. */
  send(spans: ReadableSpan[], signal: AbortSignal): Promise<void>;
  /** Counts the outcomes of ended spans: `exported`, `dropped` before sending, or `failed` to be sent. */
  onSpans(outcome: SpanOutcome, count: number): void;
};

/**
 * Creates a queue of ended spans, which are sent in batches. If the collector is slow or down, the queue fills up, and new spans
 * are dropped and counted. The SDK's own processor doesn't count dropped spans.
 */
export function createSpanQueue({ spansMax, delayMs, send, onSpans }: Options): SpanProcessor {
  const stopController = new AbortController();
  let waitingSpans: ReadableSpan[] = [];
  let timer: Timer | undefined;
  let sendingPromise: Promise<void> | undefined;

  async function sendBatch(): Promise<void> {
    const spans = waitingSpans.splice(0, BATCH_SPANS);
    await send(spans, stopController.signal).then(
      () => onSpans("exported", spans.length),
      () => onSpans("failed", spans.length),
    );
  }

  /** Sends a batch, and then further full batches. */
  async function sendAll(): Promise<void> {
    do await sendBatch();
    while (waitingSpans.length >= BATCH_SPANS);
  }

  function flush(): Promise<void> {
    clearTimeout(timer);
    timer = undefined;
    if (waitingSpans.length === 0 && !sendingPromise) return Promise.resolve();
    sendingPromise ??= sendAll().finally(() => {
      sendingPromise = undefined;
      if (waitingSpans.length > 0) scheduleFlush();
    });
    return sendingPromise;
  }

  function scheduleFlush(): void {
    if (stopController.signal.aborted || sendingPromise) return;
    if (waitingSpans.length >= BATCH_SPANS) void flush();
    else timer ??= setTimeout(flush, delayMs).unref();
  }

  return {
    onStart() {},
    onEnd(span) {
      if (!isSampled(span.spanContext())) return;
      if (waitingSpans.length >= spansMax || stopController.signal.aborted) {
        onSpans("dropped", 1);
        return;
      }
      waitingSpans.push(span);
      scheduleFlush();
    },
    async forceFlush() {
      while (sendingPromise || (waitingSpans.length > 0 && !stopController.signal.aborted)) await flush();
    },
    /** Discards spans that haven't been sent. */
    async shutdown() {
      stopController.abort();
      clearTimeout(timer);
      const unsentCount = waitingSpans.length;
      waitingSpans = [];
      if (unsentCount > 0) onSpans("dropped", unsentCount);
      await sendingPromise;
    },
  };
}
