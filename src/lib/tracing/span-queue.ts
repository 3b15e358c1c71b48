import type { ReadableSpan, SpanProcessor } from "@opentelemetry/sdk-trace";
import { isSampled } from "./tracing.ts";

/** Maximum number of spans per request to the collector. */
const BATCH_SPANS = 512;

export type SpanOutcome = "exported" | "dropped" | "failed";

type Options = {
  /** Maximum number of spans that wait to be sent. Further spans are dropped. */
  spansMax: number;
  /** Time for which spans are collected before they are sent. */
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
  const stopping = new AbortController();
  let waiting: ReadableSpan[] = [];
  let timer: Timer | undefined;
  let sending: Promise<void> | undefined;

  async function sendBatch(): Promise<void> {
    const spans = waiting.splice(0, BATCH_SPANS);
    await send(spans, stopping.signal).then(
      () => onSpans("exported", spans.length),
      () => onSpans("failed", spans.length),
    );
  }

  /** Sends a batch, and then further full batches. */
  async function sendAll(): Promise<void> {
    do await sendBatch();
    while (waiting.length >= BATCH_SPANS);
  }

  function flush(): Promise<void> {
    clearTimeout(timer);
    timer = undefined;
    if (waiting.length === 0 && !sending) return Promise.resolve();
    sending ??= sendAll().finally(() => {
      sending = undefined;
      if (waiting.length > 0) schedule();
    });
    return sending;
  }

  function schedule(): void {
    if (stopping.signal.aborted || sending) return;
    if (waiting.length >= BATCH_SPANS) void flush();
    else timer ??= setTimeout(flush, delayMs).unref();
  }

  return {
    onStart() {},
    onEnd(span) {
      if (!isSampled(span.spanContext())) return;
      if (waiting.length >= spansMax || stopping.signal.aborted) {
        onSpans("dropped", 1);
        return;
      }
      waiting.push(span);
      schedule();
    },
    async forceFlush() {
      while (sending || (waiting.length > 0 && !stopping.signal.aborted)) await flush();
    },
    /** Discards spans that haven't been sent. */
    async shutdown() {
      stopping.abort();
      clearTimeout(timer);
      const lost = waiting.length;
      waiting = [];
      if (lost > 0) onSpans("dropped", lost);
      await sending;
    },
  };
}
