// Limits that clients notice are defined in protocol/, for the documentation.
export {
  AUTH_TIMEOUT_MS,
  HEARTBEAT_MS,
  PONG_TIMEOUT_MS,
  SENDING_MAX,
  SLOW_BYTES_MAX,
  SUBSCRIPTIONS_MAX,
  shownLimits,
  VIOLATIONS_MAX,
  WAITING_FRAMES_MAX,
} from "../../protocol/limits.ts";

/** A client that doesn't respond to a close frame is disconnected after this time. */
export const CLOSE_TIMEOUT_MS = 5_000;
/** Maximum bytes of queued frames over all connections; beyond this, frames fail with `overloaded`. */
export const WAITING_FRAMES_BYTES_MAX = 64 * 1024 * 1024;
/** Retry delay for such frames; jitter makes it up to twice as long. */
export const OVERLOAD_RETRY_MIN_MS = 1_000;
/** Unread bytes at which the runtime closes the connection immediately, even within a burst. */
export const BACKPRESSURE_BYTES_MAX = 16 * 1024 * 1024;
/** Frames above this close the connection with 1009; smaller ones above Parley's limit get an error frame. */
export const FRAME_BYTES_READ_MAX = 1024 * 1024;
