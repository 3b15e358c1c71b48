import { read } from "read";
import { CommandError, UsageError } from "./command.ts";

/** Enough for every password that Parley accepts, in UTF-8, with its line break. */
const BYTES_MAX = 4_096;
const newline = 10;

/**
 * Reads a password: with a prompt and without echo on a terminal, otherwise from the first line of standard input. This keeps
 * the password out of process lists and shell histories.
 * @returns an empty string if there is no password.
 * @throws UsageError if the password is too long or not UTF-8; CommandError if the user aborts.
 */
export async function readPassword(prompt: string): Promise<string> {
  if (!process.stdin.isTTY) return readLine(Bun.stdin.stream());
  try {
    // The prompt is written to stderr, because scripts may read stdout.
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
