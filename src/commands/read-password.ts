import { read } from "read";
import { CommandError, UsageError } from "./command.ts";

/** Maximum size of a password's input. It is larger than the longest valid password in UTF-8 with its line break. */
const INPUT_BYTES_MAX = 4_096;
const NEWLINE = 10;

/**
 * Reads a password: on a terminal with a prompt and without echo, otherwise from the first line of standard input. This keeps
 * the password out of process lists and shell histories.
 * @returns an empty string if there is no password.
 * @throws UsageError if the password is too long or not UTF-8; CommandError if the user aborts.
 */
export async function readPassword(prompt: string): Promise<string> {
  if (!process.stdin.isTTY) return readLine(Bun.stdin.stream());
  try {
    // Scripts may read stdout, so the prompt goes to stderr.
    return await read({ prompt, silent: true, terminal: true, output: process.stderr });
  } catch {
    throw new CommandError("No password was entered; nothing was changed.");
  } finally {
    process.stderr.write("\n");
  }
}

async function readLine(stream: ReadableStream<Uint8Array>): Promise<string> {
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of stream) {
    const newlineIndex = chunk.indexOf(NEWLINE);
    const line = newlineIndex === -1 ? chunk : chunk.subarray(0, newlineIndex);
    chunks.push(line);
    bytes += line.length;
    if (bytes > INPUT_BYTES_MAX)
      throw new UsageError(`The password on standard input is longer than ${INPUT_BYTES_MAX} bytes.`);
    if (newlineIndex !== -1) break;
  }
  try {
    const text = new TextDecoder("utf-8", { fatal: true }).decode(Buffer.concat(chunks));
    return text.replace(/\r$/, "");
  } catch {
    throw new UsageError("The password on standard input is not UTF-8.");
  }
}
