import { closeSync, copyFileSync, fstatSync, ftruncateSync, openSync, readSync } from "node:fs";

/** Above this size the log moves to `<path>.1`, which it replaces: both together stay below about twice of it. */
const LOG_BYTES_MAX = 4_000_000;
const CHECK_EVERY_MS = 30_000;
const TAIL_BYTES = 8_000;

export type ServerLog = {
  /** For the server's stdout and stderr, which write to it themselves: it gets its last words even when Parley is gone. */
  descriptor: number;
  /** Why the server ended, as far as it said so since `offset`; else an empty text. */
  findReason(offset: number): string;
  sizeBytes(): number;
  close(): void;
};

/** Opens the log of the server for appending, and keeps its size bounded until it is closed. */
export function openServerLog(path: string): ServerLog {
  const descriptor = openSync(path, "a+", 0o600);
  const sizeBytes = () => fstatSync(descriptor).size;
  limitSize(path, descriptor);
  const timer = setInterval(() => limitSize(path, descriptor), CHECK_EVERY_MS);
  timer.unref();
  return {
    descriptor,
    sizeBytes,
    findReason: (offset) => findReason(readTail(descriptor, offset)),
    close() {
      clearInterval(timer);
      closeSync(descriptor);
    },
  };
}

function limitSize(path: string, descriptor: number): void {
  if (fstatSync(descriptor).size <= LOG_BYTES_MAX) return;
  try {
    copyFileSync(path, `${path}.1`);
  } catch {
    // Somebody removed the file, or the disk is full: what was in it is lost, and Parley goes on.
  }
  // The server appends, so it goes on at the new end.
  ftruncateSync(descriptor);
}

function readTail(descriptor: number, offset: number): string {
  const size = fstatSync(descriptor).size;
  const start = Math.max(Math.min(offset, size), size - TAIL_BYTES);
  const buffer = Buffer.alloc(size - start);
  return buffer.toString("utf8", 0, readSync(descriptor, buffer, 0, buffer.length, start));
}

/** What the system refused; whatever else a log names follows from it. */
const refusal =
  /No space left on device|Disk quota exceeded|Read-only file system|Permission denied|Input\/output error|Cannot allocate memory|Too many open files/;

/**
 * The last line that names a cause, of those with a refusal of the system if there are any. A hint and a detail follow it;
 * the dynamic loader says `error while loading`.
 */
export function findReason(text: string): string {
  const lines = text.split("\n").filter((line) => /FATAL:|PANIC:|was terminated by signal|error[: ]/.test(line));
  return (lines.findLast((line) => refusal.test(line)) ?? lines.at(-1) ?? "")
    .replace(/^.*?(FATAL|PANIC|LOG|error):\s*/, "")
    .trim();
}
