import { CONTENT_CHARS_MAX, FRAME_BYTES_MAX } from "./frames.ts";

/** Idle time after which a socket is pinged. */
export const HEARTBEAT_MS = 25_000;
/** Timeout for the response to a ping. After it, the socket is closed. */
export const PONG_TIMEOUT_MS = 10_000;
/** Timeout for the credential of a new socket. After it, the socket is closed. */
export const AUTH_TIMEOUT_MS = 10_000;
/** Maximum number of subscribed conversations per connection. */
export const SUBSCRIPTIONS_MAX = 1_000;
/** Maximum number of unacknowledged messages per connection. Further messages are rejected with `rate_limited`. */
export const SENDING_MAX = 1_000;
/** Maximum number of queued frames per connection. If there are more, the connection is closed with 4005. */
export const WAITING_FRAMES_MAX = 1_000;
/** Maximum number of consecutive invalid frames. If there are more, the connection is closed with 4507. */
export const VIOLATIONS_MAX = 200;
/** Maximum number of unread bytes. If a client exceeds it at two consecutive checks, the connection is closed with 4002. */
export const SLOW_BYTES_MAX = 1024 * 1024;
/** Maximum number of recovered events. A client that missed more events or too much text must reload the history. */
export const RECOVERY_EVENTS_MAX = 500;
/** Interval between comment lines in an event stream, which prevent idle timeouts. */
export const STREAM_HEARTBEAT_MS = 15_000;

type Limit = { value: number; unit: string; effect: string };

/** The fixed limits of the WebSocket and event streams, for the AsyncAPI document and docs/limits.md. */
export const realtimeLimits: Readonly<Record<string, Limit>> = {
  frame_bytes: { value: FRAME_BYTES_MAX, unit: "bytes", effect: "A longer client frame is rejected with `too_large`." },
  content_chars: {
    value: CONTENT_CHARS_MAX,
    unit: "UTF-16 code units",
    effect: "A longer message is rejected with `invalid`. Over a socket, `frame_bytes` is reached first.",
  },
  subscriptions: {
    value: SUBSCRIPTIONS_MAX,
    unit: "conversations per connection",
    effect: "A further `subscribe` is rejected with `rate_limited`.",
  },
  messages_in_flight: {
    value: SENDING_MAX,
    unit: "unacknowledged messages per connection",
    effect: "A further `message.send` is rejected with `rate_limited`.",
  },
  recovery_events: {
    value: RECOVERY_EVENTS_MAX,
    unit: "events",
    effect: "If you missed more, `recovered` is false and `events` is empty. Read the history over REST.",
  },
  waiting_frames: {
    value: WAITING_FRAMES_MAX,
    unit: "queued frames per connection",
    effect: "If there are more, the connection is closed with 4005.",
  },
  invalid_frames: {
    value: VIOLATIONS_MAX,
    unit: "consecutive invalid frames",
    effect: "If there are more, the connection is closed with 4507.",
  },
  unread_bytes: {
    value: SLOW_BYTES_MAX,
    unit: "bytes",
    effect: "If more stays unread for several seconds, the connection is closed with 4002.",
  },
  auth_timeout_ms: {
    value: AUTH_TIMEOUT_MS,
    unit: "milliseconds",
    effect: "A connection without a credential is closed with 4502.",
  },
  heartbeat_ms: { value: HEARTBEAT_MS, unit: "milliseconds", effect: "A connection idle for longer is pinged." },
  pong_timeout_ms: {
    value: PONG_TIMEOUT_MS,
    unit: "milliseconds",
    effect:
      "If no pong arrives in time, the connection is closed with 4003. Browsers and libraries respond automatically.",
  },
  stream_heartbeat_ms: {
    value: STREAM_HEARTBEAT_MS,
    unit: "milliseconds",
    effect: "Interval between the comment lines of an event stream.",
  },
};

/** The limits announced to clients in `ready`. */
export const announcedLimits = {
  frame_bytes: FRAME_BYTES_MAX,
  content_chars: CONTENT_CHARS_MAX,
  subscriptions: SUBSCRIPTIONS_MAX,
  recovery_events: RECOVERY_EVENTS_MAX,
  messages_in_flight: SENDING_MAX,
};
