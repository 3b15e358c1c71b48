import type { PathRow } from "./context-queries.ts";

/** Most rows read of one path, shown or not; older ones are ignored. */
const ROWS_MAX = 5_000;

/**
 * Walks from a message to its ancestors, newest first, in the batches in which they are read; a message with a summary is
 * the last of its batch. Each batch is read on demand.
 * @param first the first batch.
 * @param read reads a batch up to a number.
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
