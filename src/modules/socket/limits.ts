// The limits that clients notice are in protocol/, for the documents.
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

/** A client that doesn't answer a close frame is disconnected after this time. */
export const CLOSE_TIMEOUT_MS = 5_000;
/** Bytes of queued frames over all connections; beyond it frames fail with `overloaded`. */
export const WAITING_FRAMES_BYTES_MAX = 64 * 1024 * 1024;
/** Retry delay for such frames; up to twice as long with jitter. */
export const OVERLOAD_RETRY_MIN_MS = 1_000;
/** Unread bytes at which the runtime closes the connection itself, even within a burst. */
export const BACKPRESSURE_BYTES_MAX = 16 * 1024 * 1024;
/** Frame bytes that the runtime accepts, so that a frame over the limit gets an error; beyond it, 1009. */
export const FRAME_BYTES_READ_MAX = 1024 * 1024;
