import { CONTENT_CHARS_MAX, FRAME_BYTES_MAX } from "../../protocol/frames.ts";
import type { Push } from "../../protocol/pushes.ts";
import { RECOVERY_EVENTS_MAX } from "../messages/service.ts";

/** A socket that has said nothing for so long is pinged. */
export const HEARTBEAT_MS = 25_000;
/** And ended, when it has not answered after this. */
export const PONG_TIMEOUT_MS = 10_000;
/** A socket without a credential is ended after this. */
export const AUTH_TIMEOUT_MS = 10_000;
/** A client that does not answer a close loses its transport after this. */
export const CLOSE_TIMEOUT_MS = 5_000;
/** Conversations that one connection may listen to. */
export const SUBSCRIPTIONS_MAX = 1_000;
/** Frames of one connection that may wait for their turn; past it the connection ends with 4005. */
export const WAITING_FRAMES_MAX = 1_000;
/** Bytes of the waiting frames of all connections together; past it frames are answered `overloaded`. */
export const WAITING_FRAMES_BYTES_MAX = 64 * 1024 * 1024;
/** Such a frame may be sent again after this, or up to twice as long. */
export const OVERLOAD_RETRY_MIN_MS = 1_000;
/** Messages of one connection on their way to the database; past it they are answered `rate_limited`. */
export const SENDING_MAX = 1_000;
/** Frames in a row that are not of the protocol; past it the connection ends with 4507. */
export const VIOLATIONS_MAX = 200;
/** A client with more unread bytes than this at two sweeps in a row is too slow, and ended with 4002. */
export const SLOW_BYTES_MAX = 1024 * 1024;
/** Unread bytes after which the runtime ends the connection by itself, in the middle of a burst. */
export const BACKPRESSURE_BYTES_MAX = 16 * 1024 * 1024;
/** Bytes of a frame that the runtime still reads, so that one over the limit gets an answer; past it 1009. */
export const FRAME_BYTES_READ_MAX = 1024 * 1024;

/** What `ready` tells clients of it. */
export const shownLimits: Push<"ready">["limits"] = {
  frame_bytes: FRAME_BYTES_MAX,
  content_chars: CONTENT_CHARS_MAX,
  subscriptions: SUBSCRIPTIONS_MAX,
  recovery_events: RECOVERY_EVENTS_MAX,
  messages_in_flight: SENDING_MAX,
};
