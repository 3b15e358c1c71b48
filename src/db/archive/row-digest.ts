const NEWLINE = 10;

export type RowSums = { rows: number; bytes: number; checksum: string };

/**
 * Creates a digest of a table's rows in COPY's text format. It counts the rows and adds up their XXH64 hashes, so that the checksum
 * doesn't depend on the order of the rows. Accepts chunks of any length.
 */
export function createRowDigest() {
  let rows = 0;
  let bytes = 0;
  let sum = 0n;
  let partialRow: Buffer | null = null;

  return {
    add(chunk: Buffer): void {
      bytes += chunk.length;
      let start = 0;
      let chunkSum = 0n;
      // Newlines in values are escaped, so every newline ends a row.
      for (let end = chunk.indexOf(NEWLINE); end >= 0; end = chunk.indexOf(NEWLINE, start)) {
        const row: Buffer = partialRow
          ? Buffer.concat([partialRow, chunk.subarray(start, end)])
          : chunk.subarray(start, end);
        partialRow = null;
        chunkSum += Bun.hash.xxHash64(row, 0n);
        rows += 1;
        start = end + 1;
      }
      sum = BigInt.asUintN(64, sum + chunkSum);
      if (start === chunk.length) return;
      const tail = chunk.subarray(start);
      partialRow = partialRow ? Buffer.concat([partialRow, tail]) : Buffer.from(tail);
    },

    /** Returns whether the last row is complete. */
    isComplete: (): boolean => partialRow === null,

    getSums: (): RowSums => ({ rows, bytes, checksum: sum.toString(16).padStart(16, "0") }),
  };
}
