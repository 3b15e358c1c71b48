/** A member of a tar archive (ustar): a regular file. */
export type TarEntry = { path: string; content: Uint8Array };

const BLOCK_BYTES = 512;
const NAME_BYTES_MAX = 100;
/** Maximum size or time in a header: 11 octal digits. */
const NUMBER_MAX = 8 ** 11 - 1;

/** Returns the size of a member with its header and padding. */
const getTarEntryBytes = (contentBytes: number): number =>
  BLOCK_BYTES + contentBytes + (-contentBytes & (BLOCK_BYTES - 1));

/** The end marker of an archive. */
export const TAR_END: Uint8Array = new Uint8Array(2 * BLOCK_BYTES);

/** Encodes a member with its header and padding. An archive is a sequence of members followed by TAR_END. */
export function encodeTarEntry({ path, content }: TarEntry, { mode, modifiedAtS }: TarOptions): Buffer {
  if (Buffer.byteLength(path) > NAME_BYTES_MAX) throw new Error(`The name is too long for a tar header: ${path}`);
  const entry = Buffer.alloc(getTarEntryBytes(content.length));
  entry.write(path, 0);
  entry.write(formatOctal(mode, 7), 100);
  entry.write(formatOctal(0, 7), 108);
  entry.write(formatOctal(0, 7), 116);
  entry.write(formatOctal(content.length, 11), 124);
  entry.write(formatOctal(Math.min(NUMBER_MAX, modifiedAtS), 11), 136);
  entry.write("0", 156);
  entry.write("ustar\u000000", 257);
  entry.write(`${formatOctal(calculateChecksum(entry), 6)}\0 `, 148);
  entry.set(content, BLOCK_BYTES);
  return entry;
}

type TarOptions = { mode: number; modifiedAtS: number };

/** Decodes one member. Returns null if the bytes aren't exactly one member. */
export function decodeTarEntry(entry: Buffer): TarEntry | null {
  if (entry.length < BLOCK_BYTES || entry.toString("latin1", 257, 262) !== "ustar") return null;
  const size = parseOctal(entry, 124, 12);
  if (parseOctal(entry, 148, 8) !== calculateChecksum(entry) || getTarEntryBytes(size) !== entry.length) return null;
  const end = entry.indexOf(0);
  const path = entry.toString("utf8", 0, Math.min(end, NAME_BYTES_MAX));
  return { path, content: entry.subarray(BLOCK_BYTES, BLOCK_BYTES + size) };
}

/** Calculates the checksum of a header, in which the checksum's own field counts as spaces. */
function calculateChecksum(entry: Buffer): number {
  let sum = 8 * 32;
  for (let at = 0; at < BLOCK_BYTES; at += 1) if (at < 148 || at >= 156) sum += entry[at] ?? 0;
  return sum;
}

const formatOctal = (value: number, digits: number) => value.toString(8).padStart(digits, "0");

function parseOctal(entry: Buffer, at: number, length: number): number {
  const text = entry.toString("latin1", at, at + length).replace(/[\0 ]+$/, "");
  return /^[0-7]+$/.test(text) ? Number.parseInt(text, 8) : Number.NaN;
}
