import { promisify } from "node:util";
import { zstdDecompress } from "node:zlib";
import { decodeTarEntry, TAR_END, type TarEntry } from "../../lib/tar.ts";
import { type ByteReader, type ByteSource, createByteReader } from "./byte-reader.ts";
import { AGE_VERSION_LINE, decrypt } from "./encryption.ts";
import { ArchiveError, createDamagedError, createTruncatedError } from "./error.ts";
import {
  decodeEnd,
  decodeMarkerPrefix,
  decodePartMarker,
  decodeStart,
  encodeStart,
  FORMAT_VERSION,
  hashPart,
  MARKER_PREFIX_BYTES,
  type PartMarker,
  START_BYTES,
} from "./format.ts";

const decompress = promisify<Uint8Array, object, Buffer>(zstdDecompress);

export type ReadOptions = {
  /** Called only if the backup is encrypted. */
  getPassphrase?: (() => Promise<string>) | undefined;
  signal?: AbortSignal | undefined;
};

/** The entries of a backup, in order. Each entry is verified before it is yielded. The end of the file is verified after the last entry. */
export type ArchiveEntries = { isEncrypted: boolean; entries: AsyncIterable<TarEntry>; close(): Promise<void> };

/**
 * Opens a backup and decrypts it.
 * @throws ArchiveError if the file isn't a backup, a newer Parley made it, or the passphrase is missing or wrong. Reading the entries
 * throws ArchiveError if the backup is damaged or truncated.
 */
export async function openArchive(source: ByteSource, { getPassphrase, signal }: ReadOptions): Promise<ArchiveEntries> {
  const fileReader = createByteReader(source);
  try {
    const start = await fileReader.readUpTo(START_BYTES);
    if (start.length === 0) throw new ArchiveError("foreign", "The file is empty; it is not a Parley backup.");
    const isEncrypted = isStartOf(start, AGE_VERSION_LINE);
    const fullSource = prepend(start, fileReader.readRemaining());
    const reader = isEncrypted
      ? createByteReader(await decryptSource(fullSource, getPassphrase))
      : createByteReader(fullSource);
    const startMarker = await readStart(reader, isEncrypted);
    return { isEncrypted, entries: readEntries(reader, startMarker, signal), close: fileReader.close };
  } catch (error) {
    await fileReader.close();
    throw error;
  }
}

const isStartOf = (bytes: Buffer, text: string): boolean => bytes.toString("latin1", 0, text.length) === text;

async function* prepend(start: Uint8Array, rest: ByteSource): ByteSource {
  yield start;
  yield* rest;
}

async function decryptSource(source: ByteSource, getPassphrase: ReadOptions["getPassphrase"]): Promise<ByteSource> {
  if (!getPassphrase)
    throw new ArchiveError("passphrase", "The backup is encrypted; set BACKUP_PASSPHRASE to its passphrase.");
  return decrypt(source, await getPassphrase());
}

async function readStart(reader: ByteReader, isEncrypted: boolean): Promise<Buffer> {
  const start = await reader.readUpTo(START_BYTES);
  const version = decodeStart(start);
  if (version === null)
    throw isTruncatedStart(start)
      ? createTruncatedError(start.length)
      : new ArchiveError(
          "foreign",
          `The ${isEncrypted ? "content of the encrypted file" : "file"} is not a Parley backup; use one that \`parley backup\` made.`,
        );
  if (version > FORMAT_VERSION)
    throw new ArchiveError(
      "newer",
      `The backup has format ${version}, and this Parley reads formats up to ${FORMAT_VERSION}; use a newer version of Parley.`,
    );
  return start;
}

/** Returns whether the file is a backup that was truncated within its first marker. */
const isTruncatedStart = (start: Buffer): boolean =>
  start.length > 0 && start.length < START_BYTES && encodeStart().subarray(0, start.length).equals(start);

async function* readEntries(
  reader: ByteReader,
  startMarker: Buffer,
  signal: AbortSignal | undefined,
): AsyncIterable<TarEntry> {
  const hasher = new Bun.CryptoHasher("sha256");
  hasher.update(startMarker);
  let next = readPart(reader, hasher);
  for (;;) {
    signal?.throwIfAborted();
    const part = await next;
    if (part === null) throw createDamagedError("its archive has no end");
    if (part.equals(TAR_END)) break;
    // Reads and decompresses the next part while this one is processed.
    next = readPart(reader, hasher);
    next.catch(() => {});
    const entry = decodeTarEntry(part);
    if (!entry) throw createDamagedError(`an entry before byte ${reader.getPosition()}`);
    yield entry;
  }
  if ((await readPart(reader, hasher)) !== null) throw createDamagedError("its archive continues after its end");
  const length = reader.getPosition();
  if ((await reader.readUpTo(1)).length > 0)
    throw createDamagedError(`there is data after its end marker at byte ${length}`);
}

/** Reads the next part. At the end marker, verifies all bytes before it and returns null. */
async function readPart(reader: ByteReader, hasher: Bun.CryptoHasher): Promise<Buffer | null> {
  const offset = reader.getPosition();
  const prefix = await reader.read(MARKER_PREFIX_BYTES);
  const { kind, payloadBytes } = decodeMarkerPrefix(prefix, offset);
  const payload = await reader.read(payloadBytes);
  if (kind === "end") {
    if (!decodeEnd(payload, offset).equals(hasher.digest())) throw createDamagedError("its SHA-256 differs");
    return null;
  }
  const part = decodePartMarker(payload, offset);
  const packed = await reader.read(part.packedBytes);
  hasher.update(prefix).update(payload).update(packed);
  return decompressPart(packed, part, offset);
}

async function decompressPart(packed: Buffer, { plainBytes, hash }: PartMarker, offset: number): Promise<Buffer> {
  const damage = `the part at byte ${offset}`;
  if (hashPart(packed) !== hash) throw createDamagedError(damage);
  // Limits the output, because the frame header could claim any length.
  const plain = await decompress(packed, { maxOutputLength: Math.max(1, plainBytes) }).catch(() => null);
  if (plain?.length !== plainBytes) throw createDamagedError(damage);
  return plain;
}
