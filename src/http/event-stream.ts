import type { Server } from "bun";
import type { Problem } from "../lib/problem.ts";
import { STREAM_HEARTBEAT_MS } from "../protocol/limits.ts";
import { createErrorFrame } from "../protocol/pushes.ts";
import { parseAccept } from "./accept.ts";

const EVENT_STREAM = "text/event-stream";

/** A stream is closed if its unsent data exceeds this size for `STREAM_SLOW_MS`. The client must then reconnect. */
export const STREAM_SLOW_BYTES = 1024 * 1024;
export const STREAM_SLOW_MS = 2_000;
/** Maximum unsent data of a stream. If it is exceeded, the stream is closed immediately. */
export const STREAM_BUFFER_BYTES_MAX = 16 * 1024 * 1024;
/** Timeout for sending the remaining data after a stream has ended. The timeout restarts whenever the client receives data. */
const STREAM_END_TIMEOUT_S = 10;
/** Maximum amount of data that Bun buffers before sending. */
const READ_AHEAD_BYTES = 64 * 1024;

/**
 * Whether the client requests an event stream: `Accept` must contain `text/event-stream` with at least the weight of JSON.
 */
export function acceptsEventStream(request: Request): boolean {
  const accept = request.headers.get("accept");
  if (!accept?.toLowerCase().includes(EVENT_STREAM)) return false;
  const ranges = parseAccept(accept);
  const eventStream = ranges.find(({ type }) => type === EVENT_STREAM)?.quality ?? 0;
  const json = ranges.find(({ type }) => type === "application/json")?.quality ?? 0;
  return eventStream > 0 && eventStream >= json;
}

/** Formats an event as a server-sent event. The id is the `seq` of a durable event. Only durable events have a time (`at`). */
export function formatServerSentEvent(
  event: { type: string; seq?: number; at?: string },
  text = JSON.stringify(event),
): string {
  const id = event.at === undefined ? "" : `id: ${event.seq}\n`;
  return `${id}event: ${event.type}\ndata: ${text}\n\n`;
}

export type EventStream = {
  response: Response;
  /** Writes a formatted event. Does nothing after the stream has ended. */
  write(text: string): void;
  end(): void;
  /** Ends the stream with an `error` event. */
  fail(problem: Problem): void;
  /** Whether the stream has ended or the client has disconnected. */
  hasEnded(): boolean;
};

/**
 * Creates a response with server-sent events (WHATWG HTML).
 * @param onEnd called once, when the stream has ended or the client has disconnected.
 * @param options.intervalMs the interval between keep-alive comments.
 * @param options.onlyWhenIdle whether a keep-alive comment is sent only if no event was sent during the interval.
 */
export function createEventStream(
  request: Request,
  server: Server<unknown> | null,
  onEnd: () => void,
  { intervalMs, onlyWhenIdle } = { intervalMs: STREAM_HEARTBEAT_MS, onlyWhenIdle: false },
): EventStream {
  // Turns off Bun's idle timeout, which would close an idle stream.
  server?.timeout(request, 0);
  const encoder = new TextEncoder();
  let controller: ReadableStreamDefaultController<Uint8Array> | undefined;
  let hasEnded = false;
  let slowSinceMs: number | null = null;
  let lastWriteMs = performance.now();
  let heartbeatTimer = setTimeout(sendKeepAlive, intervalMs);

  /** Checks the time when it runs, so that writing an event doesn't need to reset the timer. */
  function sendKeepAlive(): void {
    const nowMs = performance.now();
    const remainingMs = lastWriteMs + intervalMs - nowMs;
    if (remainingMs <= 0) {
      write(": keep-alive\n\n");
      lastWriteMs = nowMs;
    }
    if (!hasEnded) heartbeatTimer = setTimeout(sendKeepAlive, remainingMs <= 0 ? intervalMs : remainingMs);
  }

  function end(): void {
    if (hasEnded) return;
    hasEnded = true;
    clearTimeout(heartbeatTimer);
    try {
      controller?.close();
      server?.timeout(request, STREAM_END_TIMEOUT_S);
    } catch {
      // The client has already disconnected.
    }
    onEnd();
  }

  function fail(problem: Problem): void {
    const frame = createErrorFrame(problem, null);
    write(formatServerSentEvent(frame, JSON.stringify(frame)));
    end();
  }

  function isTooSlow(unsentBytes: number): boolean {
    if (unsentBytes <= STREAM_SLOW_BYTES) {
      slowSinceMs = null;
      return false;
    }
    slowSinceMs ??= performance.now();
    return unsentBytes > STREAM_BUFFER_BYTES_MAX || performance.now() - slowSinceMs > STREAM_SLOW_MS;
  }

  function write(text: string): void {
    if (hasEnded || !controller) return;
    if (onlyWhenIdle) lastWriteMs = performance.now();
    if (isTooSlow(READ_AHEAD_BYTES - (controller.desiredSize ?? 0))) end();
    else controller.enqueue(encoder.encode(text));
  }

  const body = new ReadableStream<Uint8Array>(
    {
      start(streamController) {
        controller = streamController;
        // Bun sends the headers with the first bytes. Without this comment, clients of an idle stream would wait for the headers.
        streamController.enqueue(encoder.encode(": connected\n\n"));
      },
      cancel: end,
    },
    new ByteLengthQueuingStrategy({ highWaterMark: READ_AHEAD_BYTES }),
  );
  request.signal.addEventListener("abort", end, { once: true });
  // Deferred, so that the caller has the stream before `onEnd` runs.
  if (request.signal.aborted) queueMicrotask(end);
  const headers = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-store",
    "x-accel-buffering": "no",
  };
  return { response: new Response(body, { headers }), write, end, fail, hasEnded: () => hasEnded };
}
