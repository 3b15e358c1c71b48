import type { PendingQuery, Row } from "postgres";
import type { Sql } from "../db/client.ts";

/**
 * The maximum number of bytes of text per read, so that a page of long texts can't exhaust the memory. Up to two messages more
 * may be read. As JSON, the text is at most six times as large.
 */
export const READ_BYTES_MAX = 2 * 1024 * 1024;

/** Rows in order. The first `fitting` rows are within `READ_BYTES_MAX`. Any further row means that there are more. */
export type Slice<T> = { rows: T[]; fitting: number };

/** A row with the total size of the texts before it. */
export type Measured = { bytes_before: number };

/** Selects, for messages `x` in reading order, the total size of the texts before a row and before its predecessor. */
export const measure = (sql: Sql, order: PendingQuery<Row[]>) => {
  const bytes = sql`
    octet_length(x.content) + coalesce(octet_length(x.reasoning), 0) + coalesce(octet_length(x.output::text), 0)`;
  return sql`
    coalesce(sum(${bytes}) over (order by ${order} rows between unbounded preceding and 1 preceding), 0) as bytes_before,
    coalesce(sum(${bytes}) over (order by ${order} rows between unbounded preceding and 2 preceding), 0)
      as bytes_before_last`;
};

export const createSlice = <T extends Measured>(rows: T[]): Slice<T> => ({
  rows,
  fitting: rows.filter(({ bytes_before }) => bytes_before <= READ_BYTES_MAX).length,
});
