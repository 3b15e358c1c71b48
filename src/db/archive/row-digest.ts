const NEWLINE = 10;

export type RowSums = { rows: number; bytes: number; checksum: string };

/**
 * Counts the rows of a table in COPY's text format and adds up their XXH64, so that the checksum doesn't depend on the order of
 * the rows. Accepts chunks of any length.
 */
export function createRowDigest() {
  let rows = 0;
  let bytes = 0;
  let sum = 0n;
  let rest: Buffer | null = null;

  return {
    add(piece: Buffer): void {
      bytes += piece.length;
      let start = 0;
      let chunkSum = 0n;
      // The format escapes line breaks in values, so every newline ends a row.
      for (let end = piece.indexOf(NEWLINE); end >= 0; end = piece.indexOf(NEWLINE, start)) {
        const row: Buffer = rest ? Buffer.concat([rest, piece.subarray(start, end)]) : piece.subarray(start, end);
        rest = null;
        chunkSum += Bun.hash.xxHash64(row, 0n);
        rows += 1;
        start = end + 1;
      }
      sum = BigInt.asUintN(64, sum + chunkSum);
      if (start === piece.length) return;
      const tail = piece.subarray(start);
      rest = rest ? Buffer.concat([rest, tail]) : Buffer.from(tail);
    },

    /** Returns whether the last row is complete. */
    isWhole: (): boolean => rest === null,

    end: (): RowSums => ({ rows, bytes, checksum: sum.toString(16).padStart(16, "0") }),
  };
}
