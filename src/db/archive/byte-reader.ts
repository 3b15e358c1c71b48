import { createTruncated } from "./error.ts";

/** Bytes of a file or stream, in chunks of any length. */
export type ByteSource = AsyncIterable<Uint8Array>;

/** Reads a source in chunks of the caller's length. */
export interface ByteReader {
  /** @throws ArchiveError when the source ends too early. */
  read(length: number): Promise<Buffer>;
  /** Returns fewer bytes at the end of the source. */
  readUpTo(length: number): Promise<Buffer>;
  /** Everything that remains; nothing else may be read afterwards. */
  rest(): ByteSource;
  /** Bytes read so far. */
  position(): number;
  /** Closes the source. */
  close(): Promise<void>;
}

export function createByteReader(source: ByteSource): ByteReader {
  const iterator = source[Symbol.asyncIterator]();
  let pieces: Uint8Array[] = [];
  let waiting = 0;
  let position = 0;

  async function readUpTo(length: number): Promise<Buffer> {
    while (waiting < length) {
      const next = await iterator.next();
      if (next.done) break;
      pieces.push(next.value);
      waiting += next.value.length;
    }
    const [first] = pieces;
    const all =
      pieces.length === 1 && first ? Buffer.from(first.buffer, first.byteOffset, first.length) : Buffer.concat(pieces);
    const taken = all.subarray(0, length);
    pieces = taken.length < all.length ? [all.subarray(length)] : [];
    waiting = all.length - taken.length;
    position += taken.length;
    return taken;
  }

  return {
    readUpTo,

    async read(length) {
      const bytes = await readUpTo(length);
      if (bytes.length < length) throw createTruncated(position);
      return bytes;
    },

    async *rest() {
      yield* pieces;
      for (let next = await iterator.next(); !next.done; next = await iterator.next()) yield next.value;
    },

    position: () => position,

    async close() {
      await iterator.return?.();
    },
  };
}
