import { Unzip, UnzipInflate } from "fflate";
import { ImportError } from "./import-error.ts";

/** Compressed bytes per step. They can expand a thousandfold. */
const STEP_BYTES = 8 * 1024;

const ZIP_SIGNATURE = [0x50, 0x4b, 0x03, 0x04];

/** Matches conversation files. Newer exports contain several. */
const CONVERSATION_FILE = /(?:^|\/)conversations(?:[-_]\d+)?\.json$/i;

/** Returns whether the beginning of a file has the signature of a ZIP archive. */
export const hasZipSignature = (beginning: Uint8Array): boolean =>
  ZIP_SIGNATURE.every((byte, index) => beginning[index] === byte);

/** A chunk of a conversation file. `isLast` is true for the file's last chunk. */
export type FileChunk = { bytes: Uint8Array; isLast: boolean };

/**
 * Unpacks an archive's conversation files as a stream, and skips other files.
 * @param bytesMax the maximum unpacked size.
 * @throws ImportError if the archive is corrupt or encrypted, contains no conversation file, or is too large.
 */
export async function* unzip(chunks: AsyncIterable<Uint8Array>, bytesMax: number): AsyncGenerator<FileChunk> {
  const unzippedChunks: FileChunk[] = [];
  let fileCount = 0;
  let bytes = 0;
  const archive = new Unzip((file) => {
    if (!CONVERSATION_FILE.test(file.name)) return;
    fileCount += 1;
    file.ondata = (error, chunk, isLast) => {
      if (error) throw error;
      bytes += chunk.byteLength;
      if (bytes <= bytesMax) unzippedChunks.push({ bytes: chunk, isLast });
    };
    file.start();
  });
  archive.register(UnzipInflate);
  const pushToArchive = (chunk: Uint8Array, isEnd: boolean) => {
    try {
      archive.push(chunk, isEnd);
    } catch {
      throw new ImportError(
        "malformed",
        "The ZIP archive is corrupt or encrypted. Unpack it, and send conversations.json.",
      );
    }
    if (bytes > bytesMax)
      throw new ImportError("too_large", `The archive's files are larger than ${bytesMax} bytes when unpacked.`);
  };
  for await (const chunk of chunks)
    for (let offset = 0; offset < chunk.byteLength; offset += STEP_BYTES) {
      pushToArchive(chunk.subarray(offset, offset + STEP_BYTES), false);
      yield* unzippedChunks.splice(0);
    }
  pushToArchive(new Uint8Array(), true);
  yield* unzippedChunks.splice(0);
  if (fileCount === 0) throw new ImportError("invalid", "The ZIP archive contains no conversations.json.");
}
