/** Parameters of a session, by name; those that are undefined are not sent. */
export type SessionParameters = Record<string, string | undefined>;

/**
 * Parley's sessions have these settings, whatever `alter database … set` and `alter role … set` say: results are written and
 * read by them. PgBouncer takes these as startup parameters too.
 */
export const PORTABLE_PARAMETERS = {
  client_encoding: "UTF8",
  DateStyle: "ISO, MDY",
  TimeZone: "UTC",
  standard_conforming_strings: "on",
} as const;

/**
 * Sent as well, until a pooler refuses them (session-check.ts). `extra_float_digits`: every value above 0 writes numbers
 * exactly.
 */
export const DIRECT_PARAMETERS = {
  IntervalStyle: "postgres",
  bytea_output: "hex",
  extra_float_digits: "1",
  array_nulls: "on",
  transform_null_equals: "off",
  default_transaction_isolation: "read committed",
} as const;

/**
 * Sent with those. Nothing goes wrong without them: they keep one query from taking several cores, and short ones from being
 * compiled (a plan that avoids scans counts as very dear, and compiling it takes longer than running it).
 */
export const SPEED_PARAMETERS = { jit: "off", max_parallel_workers_per_gather: "0" } as const;

/** Sent with those, with values of each pool (pool.ts). Transactions set them again behind a pooler (transactions.ts). */
export const TIMEOUT_PARAMETERS = ["statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"] as const;

/** The same for what finds dead clients and frozen ones: a pooler does that itself. */
export const TCP_PARAMETERS = [
  "tcp_keepalives_idle",
  "tcp_keepalives_interval",
  "tcp_keepalives_count",
  "tcp_user_timeout",
] as const;

/** Startup parameters of a new pool, besides its timeouts. */
export const SESSION_PARAMETERS: SessionParameters = {
  ...PORTABLE_PARAMETERS,
  ...DIRECT_PARAMETERS,
  ...SPEED_PARAMETERS,
};
