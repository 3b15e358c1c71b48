/** Why the server closes a socket (RFC 6455 private range). 4000 to 4499: reconnect with backoff; 4500 to 4999: do not. */
export const closeCodes = {
  draining: { code: 4001, reason: "the server is shutting down" },
  slow_consumer: { code: 4002, reason: "the client reads too slowly" },
  no_pong: { code: 4003, reason: "no sign of life" },
  rate_limited: { code: 4005, reason: "too many frames" },
  token_expired: { code: 4006, reason: "the token has expired" },
  bad_credential: { code: 4501, reason: "the credential is not valid" },
  no_credential: { code: 4502, reason: "no credential in time" },
  forbidden: { code: 4503, reason: "not allowed" },
  too_many_connections: { code: 4504, reason: "too many connections" },
  session_revoked: { code: 4506, reason: "the session has ended" },
  protocol_violation: { code: 4507, reason: "too many frames that are not of the protocol" },
} as const;

export type CloseReason = keyof typeof closeCodes;
