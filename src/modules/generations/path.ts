import type { PathRow } from "./context-queries.ts";

/** The maximum number of rows read from a path, visible or not. Older rows are ignored. */
const PATH_ROWS_MAX = 5_000;

/**
 * Reads a message and its ancestors, newest first, in batches on demand. A message with a summary is the last of its batch.
 * @param readBatch reads the next batch, which contains no messages newer than `untilSeq`.
 */
export async function* readPath<T extends Pick<PathRow, "continue_at">>(
  firstBatch: T[],
  readBatch: (untilSeq: number) => Promise<T[]>,
): AsyncGenerator<T[]> {
  let rows = firstBatch;
  let rowsRead = 0;
  for (;;) {
    yield rows;
    rowsRead += rows.length;
    const continueAt = rows.at(-1)?.continue_at ?? null;
    if (continueAt === null || rowsRead >= PATH_ROWS_MAX) return;
    rows = await readBatch(continueAt);
  }
}
