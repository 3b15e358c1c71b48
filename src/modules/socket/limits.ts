import { CONTENT_CHARS_MAX, FRAME_BYTES_MAX } from "../../protocol/frames.ts";
import type { Push } from "../../protocol/pushes.ts";
import { RECOVERY_EVENTS_MAX } from "../messages/service.ts";

/** A socket idle for this long is pinged. */
export const HEARTBEAT_MS = 25_000;
/** It is closed if it doesn't answer the ping within this time. */
export const PONG_TIMEOUT_MS = 10_000;
/** A socket without a credential is closed after this time. */
export const AUTH_TIMEOUT_MS = 10_000;
/** A client that doesn't answer a close frame is disconnected after this time. */
export const CLOSE_TIMEOUT_MS = 5_000;
/** Subscribed conversations per connection. */
export const SUBSCRIPTIONS_MAX = 1_000;
/** Queued frames per connection; beyond it the connection closes with 4005. */
export const WAITING_FRAMES_MAX = 1_000;
/** Bytes of queued frames over all connections; beyond it frames fail with `overloaded`. */
export const WAITING_FRAMES_BYTES_MAX = 64 * 1024 * 1024;
/** Retry delay for such frames; up to twice as long with jitter. */
export const OVERLOAD_RETRY_MIN_MS = 1_000;
/** Unacknowledged messages per connection; beyond it sends fail with `rate_limited`. */
export const SENDING_MAX = 1_000;
/** Consecutive invalid frames; beyond it the connection closes with 4507. */
export const VIOLATIONS_MAX = 200;
/** A client with more unread bytes than this at two consecutive sweeps is too slow: closed with 4002. */
export const SLOW_BYTES_MAX = 1024 * 1024;
/** Unread bytes at which the runtime closes the connection itself, even within a burst. */
export const BACKPRESSURE_BYTES_MAX = 16 * 1024 * 1024;
/** Frame bytes that the runtime accepts, so that a frame over the limit gets an error; beyond it, 1009. */
export const FRAME_BYTES_READ_MAX = 1024 * 1024;

/** The limits announced to clients in `ready`. */
export const shownLimits: Push<"ready">["limits"] = {
  frame_bytes: FRAME_BYTES_MAX,
  content_chars: CONTENT_CHARS_MAX,
  subscriptions: SUBSCRIPTIONS_MAX,
  recovery_events: RECOVERY_EVENTS_MAX,
  messages_in_flight: SENDING_MAX,
};
