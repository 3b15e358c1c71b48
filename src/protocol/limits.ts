import { CONTENT_CHARS_MAX, FRAME_BYTES_MAX } from "./frames.ts";

/** A socket is pinged after being idle for this long. */
export const HEARTBEAT_MS = 25_000;
/** A socket is closed if it doesn't answer a ping within this time. */
export const PONG_TIMEOUT_MS = 10_000;
/** A socket without a credential is closed after this time. */
export const AUTH_TIMEOUT_MS = 10_000;
/** The maximum number of subscribed conversations per connection. */
export const SUBSCRIPTIONS_MAX = 1_000;
/** The maximum number of unacknowledged messages per connection. Above it, sends fail with `rate_limited`. */
export const SENDING_MAX = 1_000;
/** The maximum number of queued frames per connection. Above it, the connection is closed with 4005. */
export const WAITING_FRAMES_MAX = 1_000;
/** The maximum number of consecutive invalid frames. Above it, the connection is closed with 4507. */
export const VIOLATIONS_MAX = 200;
/** A client with more unread bytes than this at two consecutive checks is too slow, and is closed with 4002. */
export const SLOW_BYTES_MAX = 1024 * 1024;
/** The maximum number of events per recovery. A client that missed more events, or too much text, must reload the history. */
export const RECOVERY_EVENTS_MAX = 500;
/** How often an event stream sends a comment line, so that proxies and idle timeouts don't close it. */
export const STREAM_HEARTBEAT_MS = 15_000;

type Limit = { value: number; unit: string; effect: string };

/** The fixed limits that affect clients of the WebSocket and event streams, for the documents. */
export const realtimeLimits: Readonly<Record<string, Limit>> = {
  frame_bytes: { value: FRAME_BYTES_MAX, unit: "bytes", effect: "A longer client frame gets the error `too_large`." },
  content_chars: {
    value: CONTENT_CHARS_MAX,
    unit: "UTF-16 units",
    effect: "A longer message gets the error `invalid`. Over a socket, `frame_bytes` is reached first.",
  },
  subscriptions: {
    value: SUBSCRIPTIONS_MAX,
    unit: "conversations per connection",
    effect: "Another `subscribe` gets the error `rate_limited`.",
  },
  messages_in_flight: {
    value: SENDING_MAX,
    unit: "unacknowledged messages per connection",
    effect: "Another `message.send` gets the error `rate_limited`.",
  },
  recovery_events: {
    value: RECOVERY_EVENTS_MAX,
    unit: "events",
    effect: "If you missed more, `recovered` is false and `events` is empty: read the history over REST.",
  },
  waiting_frames: {
    value: WAITING_FRAMES_MAX,
    unit: "queued frames per connection",
    effect: "Beyond it, the connection closes with 4005.",
  },
  invalid_frames: {
    value: VIOLATIONS_MAX,
    unit: "consecutive invalid frames",
    effect: "Beyond it, the connection closes with 4507.",
  },
  unread_bytes: {
    value: SLOW_BYTES_MAX,
    unit: "bytes",
    effect: "If more stays unread for several seconds, the connection closes with 4002.",
  },
  auth_timeout_ms: {
    value: AUTH_TIMEOUT_MS,
    unit: "milliseconds",
    effect: "A connection without a credential closes with 4502.",
  },
  heartbeat_ms: { value: HEARTBEAT_MS, unit: "milliseconds", effect: "A connection silent for longer is pinged." },
  pong_timeout_ms: {
    value: PONG_TIMEOUT_MS,
    unit: "milliseconds",
    effect:
      "If the ping gets no pong in time, the connection closes with 4003. Browsers and libraries respond automatically.",
  },
  stream_heartbeat_ms: {
    value: STREAM_HEARTBEAT_MS,
    unit: "milliseconds",
    effect: "An event stream sends a comment line this often.",
  },
};

/** The limits announced to clients in `ready`. */
export const shownLimits = {
  frame_bytes: FRAME_BYTES_MAX,
  content_chars: CONTENT_CHARS_MAX,
  subscriptions: SUBSCRIPTIONS_MAX,
  recovery_events: RECOVERY_EVENTS_MAX,
  messages_in_flight: SENDING_MAX,
};
