/** Session parameters by name; undefined ones are not sent. */
export type SessionParameters = Record<string, string | undefined>;

/**
 * Settings of Parley's sessions, overriding `alter database … set` and `alter role … set`: results are written and read by
 * them. PgBouncer accepts these as startup parameters too.
 */
export const PORTABLE_PARAMETERS = {
  client_encoding: "UTF8",
  DateStyle: "ISO, MDY",
  TimeZone: "UTC",
  standard_conforming_strings: "on",
} as const;

/**
 * Also sent, until a pooler refuses them (session-check.ts). `extra_float_digits`: every value above 0 writes numbers
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
 * Sent with those, but optional: they keep one query from using several cores, and short ones from being compiled (a plan
 * that avoids scans counts as very expensive, and compiling it takes longer than running it).
 */
export const SPEED_PARAMETERS = { jit: "off", max_parallel_workers_per_gather: "0" } as const;

/** Also sent, with values of each pool (pool.ts). Behind a pooler, transactions set them again (transactions.ts). */
export const TIMEOUT_PARAMETERS = ["statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"] as const;

/** Also sent, to detect dead and frozen clients: a pooler does that itself. */
export const TCP_PARAMETERS = [
  "tcp_keepalives_idle",
  "tcp_keepalives_interval",
  "tcp_keepalives_count",
  "tcp_user_timeout",
] as const;

/** Startup parameters of a new pool, in addition to its timeouts. */
export const SESSION_PARAMETERS: SessionParameters = {
  ...PORTABLE_PARAMETERS,
  ...DIRECT_PARAMETERS,
  ...SPEED_PARAMETERS,
};
