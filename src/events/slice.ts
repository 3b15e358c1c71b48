import type { PendingQuery, Row } from "postgres";
import type { Sql } from "../db/client.ts";

/**
 * Maximum size of the message text per read, so that a page of long messages can't exhaust the memory. A read may exceed it by
 * up to two messages. As JSON, the text can be six times as large.
 */
export const READ_BYTES_MAX = 2 * 1024 * 1024;

/** Rows in order. Only the first `fittingCount` rows are within `READ_BYTES_MAX`. */
export type Slice<T> = { rows: T[]; fittingCount: number };

/** A row with the total size of the message text in the rows before it. */
export type MeasuredRow = { bytes_before: number };

/** Selects the total size of the message text in the rows before a row, and in the rows before its predecessor. */
export const selectTextSizes = (sql: Sql, order: PendingQuery<Row[]>) => {
  const bytes = sql`
    octet_length(x.content) + coalesce(octet_length(x.reasoning), 0) + coalesce(octet_length(x.output::text), 0)`;
  return sql`
    coalesce(sum(${bytes}) over (order by ${order} rows between unbounded preceding and 1 preceding), 0) as bytes_before,
    coalesce(sum(${bytes}) over (order by ${order} rows between unbounded preceding and 2 preceding), 0)
      as bytes_before_last`;
};

export const createSlice = <T extends MeasuredRow>(rows: T[]): Slice<T> => ({
  rows,
  fittingCount: rows.filter(({ bytes_before }) => bytes_before <= READ_BYTES_MAX).length,
});
