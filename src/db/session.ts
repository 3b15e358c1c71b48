/** Session parameters by name. Undefined parameters aren't sent. */
export type SessionParameters = Record<string, string | undefined>;

/**
 * Session settings that determine how values are formatted and parsed. They override `alter database … set` and `alter role …
 * set`. PgBouncer accepts them as startup parameters too.
 */
export const PORTABLE_PARAMETERS = {
  client_encoding: "UTF8",
  DateStyle: "ISO, MDY",
  TimeZone: "UTC",
  standard_conforming_strings: "on",
} as const;

/**
 * More settings that determine how values are formatted and parsed. They are sent unless a pooler rejects them (session-check.ts). With any
 * value of `extra_float_digits` above 0, numbers are formatted exactly.
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
 * Optional settings for better performance. They turn off parallel queries and JIT compilation. (Some of Parley's functions disable
 * sequential scans. Cost estimates are then so high that Postgres would compile even short queries, which takes longer than running them.)
 */
export const SPEED_PARAMETERS = { jit: "off", max_parallel_workers_per_gather: "0" } as const;

/** Timeouts, whose values depend on the pool (pool.ts). Behind a pooler, transactions set them again (transactions.ts). */
export const TIMEOUT_PARAMETERS = ["statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"] as const;

/** Settings that detect dead and frozen clients. They aren't needed behind a pooler, which detects them itself. */
export const TCP_PARAMETERS = [
  "tcp_keepalives_idle",
  "tcp_keepalives_interval",
  "tcp_keepalives_count",
  "tcp_user_timeout",
] as const;

/** The startup parameters of a new pool, except its timeouts. */
export const SESSION_PARAMETERS: SessionParameters = {
  ...PORTABLE_PARAMETERS,
  ...DIRECT_PARAMETERS,
  ...SPEED_PARAMETERS,
};
