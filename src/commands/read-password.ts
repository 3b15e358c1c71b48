import { read } from "read";
import { CommandError, UsageError } from "./command.ts";

/** For a UTF-8 password with its line end; longer ones are refused anyway. */
const BYTES_MAX = 4_096;
const newline = 10;

/**
 * Reads a password: on a terminal with a prompt and without echo, otherwise the first line of standard input. That keeps it
 * out of process lists and shell histories.
 * @returns an empty string if there is none. @throws UsageError if it is too long or not UTF-8, CommandError if the user aborts.
 */
export async function readPassword(prompt: string): Promise<string> {
  if (!process.stdin.isTTY) return readLine(Bun.stdin.stream());
  try {
    // The prompt goes to stderr, because scripts may read stdout.
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
