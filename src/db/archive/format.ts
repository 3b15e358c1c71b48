import { createDamaged } from "./error.ts";

// The container format of a backup; see docs/backup.md. A file is a sequence of Zstandard frames. Its markers are skippable
// frames, so `zstd -d` turns the whole file into a tar archive.

/** Increased whenever older versions of Parley can't read new backups. */
export const FORMAT_VERSION = 1;
const FORMAT_NAME = "parley-backup";
const FORMAT_NAME_BYTES = 16;

/**
 * The size of a part's content. Table data is split at this size, even within a row. Parts are small, so that the event loop
 * is never blocked for long.
 */
export const PART_BYTES = 1024 * 1024;
/** The maximum size of a part including its tar header and padding. */
const PART_PLAIN_BYTES_MAX = PART_BYTES + 1024;
/** The maximum size of a compressed part: Zstandard makes incompressible data slightly larger. */
const PART_PACKED_BYTES_MAX = PART_PLAIN_BYTES_MAX + (PART_PLAIN_BYTES_MAX >> 7) + 512;

/** Skippable frames of Zstandard (RFC 8878): a magic number, the length of the payload, the payload. */
const marks = { start: 0x184d2a50, part: 0x184d2a51, end: 0x184d2a52 } as const;
type Mark = keyof typeof marks;
const PREFIX_BYTES = 8;
const CRC_BYTES = 4;
const SHA256_BYTES = 32;
/** Payload sizes, including the CRC-32 at the end. */
const payloadBytes: Record<Mark, number> = {
  start: FORMAT_NAME_BYTES + 4 + CRC_BYTES,
  part: 4 + 4 + 8 + CRC_BYTES,
  end: SHA256_BYTES + CRC_BYTES,
};

export const START_BYTES = PREFIX_BYTES + payloadBytes.start;
/** The number of bytes that identify a marker's kind and length. */
export const MARK_PREFIX_BYTES = PREFIX_BYTES;

/** The marker before a part: the part's lengths, and the XXH64 of its compressed bytes. */
export type PartMark = { packedBytes: number; plainBytes: number; hash: bigint };

export const hashPart = (packed: Uint8Array): bigint => Bun.hash.xxHash64(packed, 0n);

function createMark(mark: Mark, fill: (payload: Buffer) => void): Buffer {
  const bytes = Buffer.alloc(PREFIX_BYTES + payloadBytes[mark]);
  bytes.writeUInt32LE(marks[mark], 0);
  bytes.writeUInt32LE(payloadBytes[mark], 4);
  const payload = bytes.subarray(PREFIX_BYTES);
  fill(payload);
  payload.writeUInt32LE(Bun.hash.crc32(payload.subarray(0, -CRC_BYTES)), payload.length - CRC_BYTES);
  return bytes;
}

export const encodeStart = (version = FORMAT_VERSION): Buffer =>
  createMark("start", (payload) => {
    payload.write(FORMAT_NAME, "latin1");
    payload.writeUInt32LE(version, FORMAT_NAME_BYTES);
  });

export const encodePartMark = ({ packedBytes, plainBytes, hash }: PartMark): Buffer =>
  createMark("part", (payload) => {
    payload.writeUInt32LE(packedBytes, 0);
    payload.writeUInt32LE(plainBytes, 4);
    payload.writeBigUInt64LE(hash, 8);
  });

/** @param sha256 of all preceding bytes. */
export const encodeEnd = (sha256: Uint8Array): Buffer => createMark("end", (payload) => payload.set(sha256));

/**
 * Reads the format version from the first bytes of a file; null if it isn't a Parley backup.
 * @throws ArchiveError if these bytes are damaged.
 */
export function decodeStart(bytes: Buffer): number | null {
  const expected = encodeStart();
  const nameEnd = PREFIX_BYTES + FORMAT_NAME_BYTES;
  if (bytes.length < START_BYTES || !bytes.subarray(0, nameEnd).equals(expected.subarray(0, nameEnd))) return null;
  checkPayload(bytes.subarray(PREFIX_BYTES), 0);
  return bytes.readUInt32LE(nameEnd);
}

/** Identifies a marker by its first bytes. @throws ArchiveError if they aren't a marker. */
export function decodeMarkPrefix(prefix: Buffer, at: number): { mark: "part" | "end"; payloadBytes: number } {
  const magic = prefix.readUInt32LE(0);
  const mark = magic === marks.part ? "part" : magic === marks.end ? "end" : null;
  if (mark === null || prefix.readUInt32LE(4) !== payloadBytes[mark]) throw createDamaged(`no mark at byte ${at}`);
  return { mark, payloadBytes: payloadBytes[mark] };
}

/** Decodes the marker before a part. @throws ArchiveError if it is damaged, or its lengths are impossible. */
export function decodePartMark(payload: Buffer, at: number): PartMark {
  checkPayload(payload, at);
  const mark = {
    packedBytes: payload.readUInt32LE(0),
    plainBytes: payload.readUInt32LE(4),
    hash: payload.readBigUInt64LE(8),
  };
  if (mark.packedBytes > PART_PACKED_BYTES_MAX || mark.plainBytes > PART_PLAIN_BYTES_MAX)
    throw createDamaged(`the part at byte ${at} is too large`);
  return mark;
}

/** Decodes the end marker. @returns the SHA-256 of all bytes before it. @throws ArchiveError if it is damaged. */
export function decodeEnd(payload: Buffer, at: number): Buffer {
  checkPayload(payload, at);
  return payload.subarray(0, SHA256_BYTES);
}

function checkPayload(payload: Buffer, at: number): void {
  const crc = payload.readUInt32LE(payload.length - CRC_BYTES);
  if (Bun.hash.crc32(payload.subarray(0, -CRC_BYTES)) !== crc) throw createDamaged(`the mark at byte ${at}`);
}
