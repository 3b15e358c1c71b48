/** WebSocket close codes, in RFC 6455's private range. Clients may reconnect after 4000 to 4499, but not after 4500 to 4999. */
export const closeCodes = {
  draining: {
    code: 4001,
    reason: "the server is shutting down",
    remedy: "Reconnect after a random delay; `server.draining` suggests one.",
  },
  slow_consumer: {
    code: 4002,
    reason: "the client reads too slowly",
    remedy: "Reconnect, and subscribe with `after_seq`.",
  },
  no_pong: { code: 4003, reason: "no response to a ping", remedy: "Reconnect, and subscribe with `after_seq`." },
  rate_limited: { code: 4005, reason: "too many frames", remedy: "Reconnect, and send fewer frames." },
  token_expired: { code: 4006, reason: "the token has expired", remedy: "Refresh the access token, then reconnect." },
  bad_credential: { code: 4501, reason: "the credential is not valid", remedy: "Log in again." },
  no_credential: {
    code: 4502,
    reason: "no credential received in time",
    remedy: "Send an `auth` frame within 10 seconds, or authenticate in the handshake.",
  },
  forbidden: { code: 4503, reason: "not allowed", remedy: "Use a credential with the required permission." },
  too_many_connections: {
    code: 4504,
    reason: "too many connections",
    remedy: "Close other connections of this user first.",
  },
  session_revoked: { code: 4506, reason: "the session has ended", remedy: "Log in again." },
  protocol_violation: {
    code: 4507,
    reason: "too many invalid frames",
    remedy: "Fix the frames that the client sends.",
  },
} as const;

export type CloseReason = keyof typeof closeCodes;

/** Whether clients may reconnect after a close code. They may also reconnect after unlisted codes, such as 1006. */
export const allowsReconnect = (code: number): boolean => code < 4500 || code > 4999;
