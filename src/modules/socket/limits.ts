// Limits that affect clients are documented, so they are defined in protocol/.
export {
  AUTH_TIMEOUT_MS,
  announcedLimits,
  HEARTBEAT_MS,
  PONG_TIMEOUT_MS,
  SENDING_MAX,
  SLOW_BYTES_MAX,
  SUBSCRIPTIONS_MAX,
  VIOLATIONS_MAX,
  WAITING_FRAMES_MAX,
} from "../../protocol/limits.ts";

/** A client that doesn't respond to a close frame is disconnected after this time. */
export const CLOSE_TIMEOUT_MS = 5_000;
/** Maximum bytes of queued frames of all connections. If there are more, new frames fail with `overloaded`. */
export const WAITING_FRAMES_BYTES_MAX = 64 * 1024 * 1024;
/** Minimum retry delay of frames that fail with `overloaded`. Jitter makes it up to twice as long. */
export const OVERLOAD_RETRY_MIN_MS = 1_000;
/** Maximum bytes that a client hasn't received. If there are more, the runtime closes the connection immediately, even in a burst. */
export const BACKPRESSURE_BYTES_MAX = 16 * 1024 * 1024;
/** Maximum size of a frame that is read. Larger frames close the connection with 1009. Smaller frames above FRAME_BYTES_MAX are answered with an error. */
export const FRAME_BYTES_READ_MAX = 1024 * 1024;
