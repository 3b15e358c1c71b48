import { Unzip, UnzipInflate } from "fflate";
import { ImportError } from "./import-error.ts";

/** Compressed bytes that are unpacked at once: at most a thousand times as many come out. */
const STEP_BYTES = 8 * 1024;

const ZIP_START = [0x50, 0x4b, 0x03, 0x04];

/** The newer exports have several files of conversations. */
const conversationFile = /(?:^|\/)conversations(?:[-_]\d+)?\.json$/i;

/** Whether a file begins as ZIP archives do. */
export const isZip = (start: Uint8Array): boolean => ZIP_START.every((byte, at) => start[at] === byte);

/** A part of a file in the archive; `isLast`: its end. */
export type ZipPart = { bytes: Uint8Array; isLast: boolean };

/**
 * Unpacks the files of conversations out of an archive, as its bytes come. Nothing else of it is unpacked.
 * @param bytesMax unpacked; an archive can claim to hold any number.
 * @throws ImportError when it is broken or encrypted, has no such file, or is too large.
 */
export async function* unzip(chunks: AsyncIterable<Uint8Array>, bytesMax: number): AsyncGenerator<ZipPart> {
  const parts: ZipPart[] = [];
  let files = 0;
  let bytes = 0;
  const archive = new Unzip((file) => {
    if (!conversationFile.test(file.name)) return;
    files += 1;
    file.ondata = (error, chunk, isLast) => {
      if (error) throw error;
      bytes += chunk.byteLength;
      if (bytes <= bytesMax) parts.push({ bytes: chunk, isLast });
    };
    file.start();
  });
  archive.register(UnzipInflate);
  const push = (chunk: Uint8Array, isEnd: boolean) => {
    try {
      archive.push(chunk, isEnd);
    } catch {
      throw new ImportError(
        "malformed",
        "The ZIP archive is broken or encrypted. Unpack it, and send conversations.json.",
      );
    }
    if (bytes > bytesMax)
      throw new ImportError("too_large", `The files of the archive have more than ${bytesMax} bytes when unpacked.`);
  };
  for await (const chunk of chunks)
    for (let from = 0; from < chunk.byteLength; from += STEP_BYTES) {
      push(chunk.subarray(from, from + STEP_BYTES), false);
      yield* parts.splice(0);
    }
  push(new Uint8Array(), true);
  yield* parts.splice(0);
  if (files === 0) throw new ImportError("invalid", "The ZIP archive has no conversations.json.");
}
