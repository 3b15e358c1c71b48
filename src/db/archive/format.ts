import { createDamagedError } from "./error.ts";

// The container format of backups (see docs/backup.md). A file is a sequence of Zstandard frames. The markers before, between and after the
// parts are skippable frames, so `zstd -d` turns the whole file into a tar archive.

/** Increased whenever older versions of Parley can't read new backups. */
export const FORMAT_VERSION = 1;
const FORMAT_NAME = "parley-backup";
const FORMAT_NAME_BYTES = 16;

/**
 * The maximum size of a part's content. Table data is split at this size, even within a row. Parts are small, so that they don't
 * block the event loop.
 */
export const PART_BYTES = 1024 * 1024;
/** The maximum size of a part, including its tar header and padding. */
const PART_PLAIN_BYTES_MAX = PART_BYTES + 1024;
/** The maximum size of a compressed part. Zstandard makes incompressible data slightly larger. */
const PART_PACKED_BYTES_MAX = PART_PLAIN_BYTES_MAX + (PART_PLAIN_BYTES_MAX >> 7) + 512;

/** The magic numbers of the markers. A skippable Zstandard frame (RFC 8878) has a magic number, a payload length and a payload. */
const markerMagics = { start: 0x184d2a50, part: 0x184d2a51, end: 0x184d2a52 } as const;
type MarkerKind = keyof typeof markerMagics;
const PREFIX_BYTES = 8;
const CRC_BYTES = 4;
const SHA256_BYTES = 32;
/** The payload sizes, including the CRC-32 at the end. */
const payloadBytes: Record<MarkerKind, number> = {
  start: FORMAT_NAME_BYTES + 4 + CRC_BYTES,
  part: 4 + 4 + 8 + CRC_BYTES,
  end: SHA256_BYTES + CRC_BYTES,
};

export const START_BYTES = PREFIX_BYTES + payloadBytes.start;
/** The size of a marker's magic number and payload length. */
export const MARKER_PREFIX_BYTES = PREFIX_BYTES;

/** The contents of the marker before a part: the part's lengths, and the XXH64 of its compressed bytes. */
export type PartMarker = { packedBytes: number; plainBytes: number; hash: bigint };

export const hashPart = (packed: Uint8Array): bigint => Bun.hash.xxHash64(packed, 0n);

function createMarker(kind: MarkerKind, fill: (payload: Buffer) => void): Buffer {
  const bytes = Buffer.alloc(PREFIX_BYTES + payloadBytes[kind]);
  bytes.writeUInt32LE(markerMagics[kind], 0);
  bytes.writeUInt32LE(payloadBytes[kind], 4);
  const payload = bytes.subarray(PREFIX_BYTES);
  fill(payload);
  payload.writeUInt32LE(Bun.hash.crc32(payload.subarray(0, -CRC_BYTES)), payload.length - CRC_BYTES);
  return bytes;
}

export const encodeStart = (version = FORMAT_VERSION): Buffer =>
  createMarker("start", (payload) => {
    payload.write(FORMAT_NAME, "latin1");
    payload.writeUInt32LE(version, FORMAT_NAME_BYTES);
  });

export const encodePartMarker = ({ packedBytes, plainBytes, hash }: PartMarker): Buffer =>
  createMarker("part", (payload) => {
    payload.writeUInt32LE(packedBytes, 0);
    payload.writeUInt32LE(plainBytes, 4);
    payload.writeBigUInt64LE(hash, 8);
  });

/** Encodes the end marker. @param sha256 the SHA-256 of all preceding bytes. */
export const encodeEnd = (sha256: Uint8Array): Buffer => createMarker("end", (payload) => payload.set(sha256));

/**
 * Parses the format version in the first bytes of a file. Returns null if the file isn't a Parley backup.
 * @throws ArchiveError if these bytes are damaged.
 */
export function decodeStart(bytes: Buffer): number | null {
  const expected = encodeStart();
  const nameEnd = PREFIX_BYTES + FORMAT_NAME_BYTES;
  if (bytes.length < START_BYTES || !bytes.subarray(0, nameEnd).equals(expected.subarray(0, nameEnd))) return null;
  checkPayload(bytes.subarray(PREFIX_BYTES), 0);
  return bytes.readUInt32LE(nameEnd);
}

/** Identifies a marker by its first bytes. @throws ArchiveError if these bytes don't start a marker. */
export function decodeMarkerPrefix(prefix: Buffer, offset: number): { kind: "part" | "end"; payloadBytes: number } {
  const magic = prefix.readUInt32LE(0);
  const kind = magic === markerMagics.part ? "part" : magic === markerMagics.end ? "end" : null;
  if (kind === null || prefix.readUInt32LE(4) !== payloadBytes[kind])
    throw createDamagedError(`no marker at byte ${offset}`);
  return { kind, payloadBytes: payloadBytes[kind] };
}

/** Decodes the marker before a part. @throws ArchiveError if it is damaged or its lengths are too large. */
export function decodePartMarker(payload: Buffer, offset: number): PartMarker {
  checkPayload(payload, offset);
  const marker = {
    packedBytes: payload.readUInt32LE(0),
    plainBytes: payload.readUInt32LE(4),
    hash: payload.readBigUInt64LE(8),
  };
  if (marker.packedBytes > PART_PACKED_BYTES_MAX || marker.plainBytes > PART_PLAIN_BYTES_MAX)
    throw createDamagedError(`the part at byte ${offset} is too large`);
  return marker;
}

/** Decodes the end marker. @returns the SHA-256 of all bytes before it. @throws ArchiveError if it is damaged. */
export function decodeEnd(payload: Buffer, offset: number): Buffer {
  checkPayload(payload, offset);
  return payload.subarray(0, SHA256_BYTES);
}

function checkPayload(payload: Buffer, offset: number): void {
  const crc = payload.readUInt32LE(payload.length - CRC_BYTES);
  if (Bun.hash.crc32(payload.subarray(0, -CRC_BYTES)) !== crc) throw createDamagedError(`the marker at byte ${offset}`);
}
