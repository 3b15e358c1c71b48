import { closeSync, copyFileSync, fstatSync, ftruncateSync, openSync, readSync } from "node:fs";

/** The maximum size of the log. A larger log is moved to `<path>.1`, replacing the previous one. */
const LOG_BYTES_MAX = 4_000_000;
const CHECK_INTERVAL_MS = 30_000;
const TAIL_BYTES = 8_000;

export type ServerLog = {
  /** The server's stdout and stderr. The server writes directly to this file, so its output isn't lost if Parley is killed. */
  descriptor: number;
  /** Returns why the server exited, or an empty string if no reason was logged after `offset`. */
  findReason(offset: number): string;
  getSizeBytes(): number;
  close(): void;
};

/** Opens the server's log for appending, and limits its size until it is closed. */
export function openServerLog(path: string): ServerLog {
  const descriptor = openSync(path, "a+", 0o600);
  const getSizeBytes = () => fstatSync(descriptor).size;
  limitSize(path, descriptor);
  const timer = setInterval(() => limitSize(path, descriptor), CHECK_INTERVAL_MS);
  timer.unref();
  return {
    descriptor,
    getSizeBytes,
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
    // The file was removed, or the disk is full. The log's contents are lost.
  }
  // The server opened the file for appending, so it continues at the new end.
  ftruncateSync(descriptor);
}

function readTail(descriptor: number, offset: number): string {
  const size = fstatSync(descriptor).size;
  const start = Math.max(Math.min(offset, size), size - TAIL_BYTES);
  const buffer = Buffer.alloc(size - start);
  return buffer.toString("utf8", 0, readSync(descriptor, buffer, 0, buffer.length, start));
}

/** Matches operating system errors, which usually cause the other errors in the log. */
const systemErrors =
  /No space left on device|Disk quota exceeded|Read-only file system|Permission denied|Input\/output error|Cannot allocate memory|Too many open files/;

/**
 * Returns the last line that states a cause, preferring operating system errors. Skips hints and details. Messages from the
 * dynamic loader contain `error while loading`.
 */
export function findReason(text: string): string {
  const lines = text.split("\n").filter((line) => /FATAL:|PANIC:|was terminated by signal|error[: ]/.test(line));
  return (lines.findLast((line) => systemErrors.test(line)) ?? lines.at(-1) ?? "")
    .replace(/^.*?(FATAL|PANIC|LOG|error):\s*/, "")
    .trim();
}
