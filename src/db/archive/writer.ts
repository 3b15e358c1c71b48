import { encodeTarEntry, TAR_END } from "../../lib/tar.ts";
import { encodeEnd, encodePartMark, encodeStart, hashPart, PART_BYTES } from "./format.ts";

/** Receives bytes in order; called again only after its promise has fulfilled. */
export type Sink = (bytes: Uint8Array) => Promise<void>;

/** Zstandard level: faster than a disk, with four fifths of the savings of the slow levels. */
const COMPRESSION_LEVEL = 3;
const SECRET_MODE = 0o600;

export interface ArchiveWriter {
  /** Adds an entry of at most PART_BYTES. Compresses and writes it in the background, one at a time. */
  add(path: string, content: Uint8Array): Promise<void>;
  /** Writes the end mark. @returns the size of the whole file. */
  finish(): Promise<number>;
}

/** Writes the container format of a backup (format.ts). Errors of the sink are thrown by the next call. */
export async function openArchiveWriter(sink: Sink): Promise<ArchiveWriter> {
  const hasher = new Bun.CryptoHasher("sha256");
  const modifiedAtS = Math.floor(Date.now() / 1_000);
  let bytes = 0;
  let writing = Promise.resolve();

  async function write(block: Uint8Array): Promise<void> {
    hasher.update(block);
    bytes += block.length;
    await sink(block);
  }

  async function writePart(plain: Uint8Array): Promise<void> {
    const packed = await Bun.zstdCompress(plain, { level: COMPRESSION_LEVEL });
    await write(encodePartMark({ packedBytes: packed.length, plainBytes: plain.length, hash: hashPart(packed) }));
    await write(packed);
  }

  async function addPart(plain: Uint8Array): Promise<void> {
    await writing;
    writing = writePart(plain);
    // Thrown when the next entry waits for it.
    writing.catch(() => {});
  }

  await write(encodeStart());
  return {
    async add(path, content) {
      if (content.length > PART_BYTES) throw new Error(`${path} is larger than a part.`);
      await addPart(encodeTarEntry({ path, content }, { mode: SECRET_MODE, modifiedAtS }));
    },

    async finish() {
      await addPart(TAR_END);
      await writing;
      await write(encodeEnd(hasher.digest()));
      return bytes;
    },
  };
}
