/** The type of an executable according to its header, like the output of `file`. */
export type ExecutableType = {
  format: "ELF" | "Mach-O" | "PE32+";
  machine: "x86_64" | "arm64";
  /** ELF: the dynamic loader, which differs between glibc and musl. */
  loader?: string;
  /** Mach-O: whether it is signed. macOS on arm64 kills unsigned programs. */
  isSigned?: boolean;
};

/** Number of bytes at the start of a file that include all headers, in every format. */
export const HEADER_BYTES = 65_536;

const elfMachines: Record<number, ExecutableType["machine"]> = { 62: "x86_64", 183: "arm64" };
const machOMachines: Record<number, ExecutableType["machine"]> = { 16777223: "x86_64", 16777228: "arm64" };
const peMachines: Record<number, ExecutableType["machine"]> = { 34404: "x86_64", 43620: "arm64" };

const ELF_INTERPRETER = 3;
const MACH_O_64 = 0xfeed_facf;
const MACH_O_EXECUTE = 2;
const MACH_O_CODE_SIGNATURE = 0x1d;
const PE32_PLUS = 0x20b;

/** Parses the first HEADER_BYTES of a file, and returns its type, or null if it isn't a 64-bit executable in one of these formats. */
export function parseExecutableType(header: Uint8Array): ExecutableType | null {
  const view = new DataView(header.buffer, header.byteOffset, header.byteLength);
  try {
    return parseElf(view, header) ?? parseMachO(view) ?? parsePe(view);
  } catch (error) {
    // The file is truncated: an offset in its header is beyond its end.
    if (error instanceof RangeError) return null;
    throw error;
  }
}

function parseElf(view: DataView, header: Uint8Array): ExecutableType | null {
  const is64BitLittleEndian = view.getUint8(4) === 2 && view.getUint8(5) === 1;
  if (view.getUint32(0) !== 0x7f45_4c46 || !is64BitLittleEndian) return null;
  const machine = elfMachines[view.getUint16(18, true)];
  if (!machine) return null;
  const programHeadersOffset = Number(view.getBigUint64(32, true));
  const entryBytes = view.getUint16(54, true);
  const entryCount = view.getUint16(56, true);
  for (let index = 0; index < entryCount; index++) {
    const entry = programHeadersOffset + index * entryBytes;
    if (view.getUint32(entry, true) !== ELF_INTERPRETER) continue;
    const offset = Number(view.getBigUint64(entry + 8, true));
    const bytes = Number(view.getBigUint64(entry + 32, true));
    if (offset + bytes > header.length) return null;
    return { format: "ELF", machine, loader: decodeCString(header.subarray(offset, offset + bytes)) };
  }
  return { format: "ELF", machine };
}

function parseMachO(view: DataView): ExecutableType | null {
  if (view.getUint32(0, true) !== MACH_O_64 || view.getUint32(12, true) !== MACH_O_EXECUTE) return null;
  const machine = machOMachines[view.getUint32(4, true)];
  if (!machine) return null;
  let isSigned = false;
  let offset = 32;
  for (let remaining = view.getUint32(16, true); remaining > 0; remaining--) {
    if (view.getUint32(offset, true) === MACH_O_CODE_SIGNATURE) isSigned = true;
    offset += view.getUint32(offset + 4, true);
  }
  return { format: "Mach-O", machine, isSigned };
}

function parsePe(view: DataView): ExecutableType | null {
  if (view.getUint16(0) !== 0x4d5a) return null;
  const peHeaderOffset = view.getUint32(0x3c, true);
  if (view.getUint32(peHeaderOffset) !== 0x5045_0000 || view.getUint16(peHeaderOffset + 24, true) !== PE32_PLUS)
    return null;
  const machine = peMachines[view.getUint16(peHeaderOffset + 4, true)];
  return machine ? { format: "PE32+", machine } : null;
}

const decodeCString = (bytes: Uint8Array): string => new TextDecoder().decode(bytes).replace(/\0.*$/, "");
