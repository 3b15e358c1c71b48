import type { Server } from "bun";
import type { Problem } from "../lib/problem.ts";
import { STREAM_HEARTBEAT_MS } from "../protocol/limits.ts";
import { createErrorFrame } from "../protocol/pushes.ts";
import { readAccept } from "./accept.ts";

const EVENT_STREAM = "text/event-stream";

/** A reader that stays more than this behind for `STREAM_SLOW_MS` is too slow: its stream ends, and it must reconnect. */
export const STREAM_SLOW_BYTES = 1024 * 1024;
export const STREAM_SLOW_MS = 2_000;
/** A reader more than this behind is disconnected immediately. */
export const STREAM_BUFFER_BYTES_MAX = 16 * 1024 * 1024;
/** After `end`, undelivered data is dropped if the reader takes nothing for this long. */
const STREAM_END_TIMEOUT_S = 10;
/** Bytes that Bun may buffer ahead of the connection. */
const READ_AHEAD_BYTES = 64 * 1024;

/**
 * Whether the caller requested an event stream: `Accept` must name it (a range like `text/*` is not enough), with at least
 * the weight of JSON.
 */
export function acceptsEventStream(request: Request): boolean {
  const accept = request.headers.get("accept");
  if (!accept?.toLowerCase().includes(EVENT_STREAM)) return false;
  const ranges = readAccept(accept);
  const wanted = ranges.find(({ type }) => type === EVENT_STREAM)?.quality ?? 0;
  const json = ranges.find(({ type }) => type === "application/json")?.quality ?? 0;
  return wanted > 0 && wanted >= json;
}

/** Formats an envelope as a server-sent event. Durable events, the only ones with a time, have their `seq` as id. */
export function formatServerSentEvent(
  event: { type: string; seq?: number; at?: string },
  text = JSON.stringify(event),
): string {
  const id = event.at === undefined ? "" : `id: ${event.seq}\n`;
  return `${id}event: ${event.type}\ndata: ${text}\n\n`;
}

export type EventStream = {
  response: Response;
  /** Writes a formatted event; does nothing after the stream has ended. */
  write(text: string): void;
  end(): void;
  /** Ends the stream with an `error` event that states the reason. */
  fail(problem: Problem): void;
  /** Also true if the reader disconnected. */
  hasEnded(): boolean;
};

/**
 * An SSE response that the caller writes to (WHATWG HTML, server-sent events).
 * @param onEnd called once: the reader disconnected, was too slow, or `end` was called.
 * @param comments how often a comment is sent; `onlyInSilence`: only if no event was sent in that time.
 */
export function createEventStream(
  request: Request,
  server: Server<unknown> | null,
  onEnd: () => void,
  { everyMs, onlyInSilence } = { everyMs: STREAM_HEARTBEAT_MS, onlyInSilence: false },
): EventStream {
  // Lifts Bun's idle timeout, which would end a quiet stream.
  server?.timeout(request, 0);
  const encoder = new TextEncoder();
  let controller: ReadableStreamDefaultController<Uint8Array> | undefined;
  let hasEnded = false;
  let slowSinceMs: number | null = null;
  let lastMs = performance.now();
  let heartbeat = setTimeout(comment, everyMs);

  /** Reschedules itself when it fires early, so that writing an event doesn't reset a timer. */
  function comment(): void {
    const nowMs = performance.now();
    const restMs = lastMs + everyMs - nowMs;
    if (restMs <= 0) {
      write(": keep-alive\n\n");
      lastMs = nowMs;
    }
    if (!hasEnded) heartbeat = setTimeout(comment, restMs <= 0 ? everyMs : restMs);
  }

  function end(): void {
    if (hasEnded) return;
    hasEnded = true;
    clearTimeout(heartbeat);
    try {
      controller?.close();
      server?.timeout(request, STREAM_END_TIMEOUT_S);
    } catch {
      // The reader disconnected first; nothing is left to close.
    }
    onEnd();
  }

  function fail(problem: Problem): void {
    const frame = createErrorFrame(problem, null);
    write(formatServerSentEvent(frame, JSON.stringify(frame)));
    end();
  }

  function isTooSlow(waitingBytes: number): boolean {
    if (waitingBytes <= STREAM_SLOW_BYTES) {
      slowSinceMs = null;
      return false;
    }
    slowSinceMs ??= performance.now();
    return waitingBytes > STREAM_BUFFER_BYTES_MAX || performance.now() - slowSinceMs > STREAM_SLOW_MS;
  }

  function write(text: string): void {
    if (hasEnded || !controller) return;
    if (onlyInSilence) lastMs = performance.now();
    if (isTooSlow(READ_AHEAD_BYTES - (controller.desiredSize ?? 0))) end();
    else controller.enqueue(encoder.encode(text));
  }

  const body = new ReadableStream<Uint8Array>(
    {
      start(created) {
        controller = created;
        // Bun sends the headers with the first bytes; without them, the reader of a quiet stream would wait.
        created.enqueue(encoder.encode(": connected\n\n"));
      },
      cancel: end,
    },
    new ByteLengthQueuingStrategy({ highWaterMark: READ_AHEAD_BYTES }),
  );
  request.signal.addEventListener("abort", end, { once: true });
  // Already aborted. Deferred, so that the caller has the stream before `onEnd` runs.
  if (request.signal.aborted) queueMicrotask(end);
  const headers = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-store",
    "x-accel-buffering": "no",
  };
  return { response: new Response(body, { headers }), write, end, fail, hasEnded: () => hasEnded };
}
