import { encodeTarEntry, TAR_END } from "../../lib/tar.ts";
import { encodeEnd, encodePartMarker, encodeStart, hashPart, PART_BYTES } from "./format.ts";

/** Receives bytes in order. It is called again only after its promise has resolved. */
export type Sink = (bytes: Uint8Array) => Promise<void>;

/** The Zstandard level. It is faster than a disk, and saves about 80% of what the slowest levels save. */
const COMPRESSION_LEVEL = 3;
const SECRET_MODE = 0o600;

export interface ArchiveWriter {
  /** Adds an entry of at most PART_BYTES. Entries are compressed and written in the background, one at a time. */
  add(path: string, content: Uint8Array): Promise<void>;
  /** Writes the end marker. @returns the file's size. */
  finish(): Promise<number>;
}

/** Opens a writer for the backup format (format.ts). If the sink fails, the next call throws its error. */
export async function openArchiveWriter(sink: Sink): Promise<ArchiveWriter> {
  const hasher = new Bun.CryptoHasher("sha256");
  const modifiedAtS = Math.floor(Date.now() / 1_000);
  let bytes = 0;
  let lastWrite = Promise.resolve();

  async function write(block: Uint8Array): Promise<void> {
    hasher.update(block);
    bytes += block.length;
    await sink(block);
  }

  async function writePart(plain: Uint8Array): Promise<void> {
    const packed = await Bun.zstdCompress(plain, { level: COMPRESSION_LEVEL });
    await write(encodePartMarker({ packedBytes: packed.length, plainBytes: plain.length, hash: hashPart(packed) }));
    await write(packed);
  }

  async function addPart(plain: Uint8Array): Promise<void> {
    await lastWrite;
    lastWrite = writePart(plain);
    // The error is thrown when the next entry waits for this one.
    lastWrite.catch(() => {});
  }

  await write(encodeStart());
  return {
    async add(path, content) {
      if (content.length > PART_BYTES) throw new Error(`${path} is larger than a part.`);
      await addPart(encodeTarEntry({ path, content }, { mode: SECRET_MODE, modifiedAtS }));
    },

    async finish() {
      await addPart(TAR_END);
      await lastWrite;
      await write(encodeEnd(hasher.digest()));
      return bytes;
    },
  };
}
