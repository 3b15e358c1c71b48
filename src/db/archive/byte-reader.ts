import { createTruncatedError } from "./error.ts";

/** The bytes of a file or stream, in chunks of any length. */
export type ByteSource = AsyncIterable<Uint8Array>;

/** Reads a source in chunks whose length the caller chooses. */
export interface ByteReader {
  /** Reads exactly `length` bytes. @throws ArchiveError if the source ends too early. */
  read(length: number): Promise<Buffer>;
  /** Reads `length` bytes, or fewer at the end of the source. */
  readUpTo(length: number): Promise<Buffer>;
  /** Returns all remaining bytes. The reader must not be used afterwards. */
  readRemaining(): ByteSource;
  /** Returns the number of bytes read so far. */
  getPosition(): number;
  /** Closes the source. */
  close(): Promise<void>;
}

export function createByteReader(source: ByteSource): ByteReader {
  const iterator = source[Symbol.asyncIterator]();
  let chunks: Uint8Array[] = [];
  let bufferedBytes = 0;
  let position = 0;

  async function readUpTo(length: number): Promise<Buffer> {
    while (bufferedBytes < length) {
      const next = await iterator.next();
      if (next.done) break;
      chunks.push(next.value);
      bufferedBytes += next.value.length;
    }
    const [first] = chunks;
    const buffered =
      chunks.length === 1 && first ? Buffer.from(first.buffer, first.byteOffset, first.length) : Buffer.concat(chunks);
    const result = buffered.subarray(0, length);
    chunks = result.length < buffered.length ? [buffered.subarray(length)] : [];
    bufferedBytes = buffered.length - result.length;
    position += result.length;
    return result;
  }

  return {
    readUpTo,

    async read(length) {
      const bytes = await readUpTo(length);
      if (bytes.length < length) throw createTruncatedError(position);
      return bytes;
    },

    async *readRemaining() {
      yield* chunks;
      for (let next = await iterator.next(); !next.done; next = await iterator.next()) yield next.value;
    },

    getPosition: () => position,

    async close() {
      await iterator.return?.();
    },
  };
}
