import { read } from "read";
import { CommandError, UsageError } from "./command.ts";

/** Of a password in UTF-8 with its end of line; a longer one is refused anyway. */
const BYTES_MAX = 4_096;
const newline = 10;

/**
 * A password from standard input: asked for on a terminal, without showing it; else the first line. So it stands in no list of
 * processes and in no history of a shell.
 * @returns an empty text if there is none. @throws UsageError if it is too long or no UTF-8, CommandError if the user ends it.
 */
export async function readPassword(prompt: string): Promise<string> {
  if (!process.stdin.isTTY) return readLine(Bun.stdin.stream());
  try {
    // Not on stdout, which may be what a script reads.
    return await read({ prompt, silent: true, terminal: true, output: process.stderr });
  } catch {
    throw new CommandError("No password was entered; nothing was changed.");
  } finally {
    process.stderr.write("\n");
  }
}

async function readLine(stream: ReadableStream<Uint8Array>): Promise<string> {
  const pieces: Uint8Array[] = [];
  let bytes = 0;
  for await (const piece of stream) {
    const end = piece.indexOf(newline);
    const part = end === -1 ? piece : piece.subarray(0, end);
    pieces.push(part);
    bytes += part.length;
    if (bytes > BYTES_MAX) throw new UsageError(`The password on standard input is longer than ${BYTES_MAX} bytes.`);
    if (end !== -1) break;
  }
  try {
    const text = new TextDecoder("utf-8", { fatal: true }).decode(Buffer.concat(pieces));
    return text.replace(/\r$/, "");
  } catch {
    throw new UsageError("The password on standard input is not UTF-8.");
  }
}
