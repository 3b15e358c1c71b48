export type TarFile = { path: string; isExecutable: boolean; content: Uint8Array };

const BLOCK_BYTES = 512;
const NAME_BYTES_MAX = 100;

/** Creates a tar archive (ustar) of regular files. It has no owners or times, so the same files always produce the same bytes. */
export function createTar(files: TarFile[]): Uint8Array<ArrayBuffer> {
  const blocks = files.flatMap(({ path, isExecutable, content }) => [
    createHeader(path, isExecutable ? 0o755 : 0o644, content.length),
    content,
    new Uint8Array(-content.length & (BLOCK_BYTES - 1)),
  ]);
  return new Uint8Array(Buffer.concat([...blocks, new Uint8Array(2 * BLOCK_BYTES)]));
}

function createHeader(path: string, mode: number, sizeBytes: number): Buffer {
  if (Buffer.byteLength(path) > NAME_BYTES_MAX) throw new Error(`The name is too long for a tar header: ${path}`);
  const header = Buffer.alloc(BLOCK_BYTES);
  header.write(path, 0);
  header.write(formatOctal(mode, 7), 100);
  header.write(formatOctal(0, 7), 108);
  header.write(formatOctal(0, 7), 116);
  header.write(formatOctal(sizeBytes, 11), 124);
  header.write(formatOctal(0, 11), 136);
  header.write(" ".repeat(8), 148);
  header.write("0", 156);
  header.write("ustar\u000000", 257);
  const checksum = header.reduce((sum, byte) => sum + byte, 0);
  header.write(`${formatOctal(checksum, 6)}\0 `, 148);
  return header;
}

const formatOctal = (value: number, digits: number) => value.toString(8).padStart(digits, "0");
