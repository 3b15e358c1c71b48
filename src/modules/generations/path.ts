import type { PathRow } from "./context-queries.ts";

/** The maximum number of rows read from one path, visible or not; older ones are ignored. */
const ROWS_MAX = 5_000;

/**
 * Walks from a message to its ancestors, newest first. Yields the batches in which they are read, each on demand. A
 * message with a summary is the last of its batch.
 * @param first the first batch.
 * @param read reads a batch that ends with this `seq`.
 */
export async function* walkPath<T extends Pick<PathRow, "continue_at">>(
  first: T[],
  read: (untilSeq: number) => Promise<T[]>,
): AsyncGenerator<T[]> {
  let rows = first;
  let rowsRead = 0;
  for (;;) {
    yield rows;
    rowsRead += rows.length;
    const continueAt = rows.at(-1)?.continue_at ?? null;
    if (continueAt === null || rowsRead >= ROWS_MAX) return;
    rows = await read(continueAt);
  }
}
