const HEADER_BYTES = 32;
const CODE_SIGNATURE_COMMAND = 0x1d;
const CODE_DIRECTORY_MAGIC = 0xfade_0c02;
const SHA256_TYPE = 2;

/**
 * Checks whether the code signature of a 64-bit Mach-O executable matches its content. macOS kills programs with an
 * invalid signature; unsigned programs only run on Intel.
 */
export function checkMachOSignature(file: Uint8Array): "valid" | "invalid" | "none" {
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  const signatureOffset = findSignatureOffset(view);
  if (signatureOffset === null) return "none";
  try {
    return matchesCodeDirectory(file, view, signatureOffset, findCodeDirectoryOffset(view, signatureOffset))
      ? "valid"
      : "invalid";
  } catch (error) {
    if (error instanceof RangeError) return "invalid";
    throw error;
  }
}

function findSignatureOffset(view: DataView): number | null {
  let offset = HEADER_BYTES;
  for (let remaining = view.getUint32(16, true); remaining > 0; remaining--) {
    if (view.getUint32(offset, true) === CODE_SIGNATURE_COMMAND) return view.getUint32(offset + 8, true);
    offset += view.getUint32(offset + 4, true);
  }
  return null;
}

/** A signature is a list of big-endian blobs; the code directory is the first. */
function findCodeDirectoryOffset(view: DataView, start: number): number {
  return start + view.getUint32(start + 16);
}

function matchesCodeDirectory(file: Uint8Array, view: DataView, signature: number, directory: number): boolean {
  const hashesOffset = directory + view.getUint32(directory + 16);
  const pageCount = view.getUint32(directory + 28);
  const codeLimit = view.getUint32(directory + 32);
  const hashBytes = view.getUint8(directory + 36);
  const pageBytes = 2 ** view.getUint8(directory + 39);
  if (view.getUint32(directory) !== CODE_DIRECTORY_MAGIC || view.getUint8(directory + 37) !== SHA256_TYPE) return false;
  if (codeLimit !== signature || pageCount !== Math.ceil(codeLimit / pageBytes)) return false;
  for (let page = 0; page < pageCount; page++) {
    const content = file.subarray(page * pageBytes, Math.min((page + 1) * pageBytes, codeLimit));
    const stored = file.subarray(hashesOffset + page * hashBytes, hashesOffset + (page + 1) * hashBytes);
    if (!Buffer.from(stored).equals(new Bun.CryptoHasher("sha256").update(content).digest())) return false;
  }
  return true;
}
