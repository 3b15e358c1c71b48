import type { PathRow } from "./context-queries.ts";

/** Rows of one path that are looked at, shown or not; what is older counts as not there. */
const ROWS_MAX = 5_000;

/**
 * The messages that lead to one, newest first, beginning with it, in the portions in which they are read; a message with a
 * summary is the last one of its portion. The next portion is only read when it is asked for.
 * @param first the first portion.
 * @param read gives a portion up to a number.
 */
export async function* walkPath<T extends Pick<PathRow, "continue_at">>(
  first: T[],
  read: (untilSeq: number) => Promise<T[]>,
): AsyncGenerator<T[]> {
  let rows = first;
  let looked = 0;
  for (;;) {
    yield rows;
    looked += rows.length;
    const continueAt = rows.at(-1)?.continue_at ?? null;
    if (continueAt === null || looked >= ROWS_MAX) return;
    rows = await read(continueAt);
  }
}
