import { dlopen } from "bun:ffi";
import { closeSync, ftruncateSync, openSync, readFileSync, writeSync } from "node:fs";
import { join } from "node:path";
import { DataDirectoryInUseError } from "./error.ts";

// Flags of flock(2).
const LOCK_EXCLUSIVE = 2;
const LOCK_NO_WAIT = 4;

const LIBC = process.platform === "darwin" ? "/usr/lib/libSystem.B.dylib" : "libc.so.6";

export type DirectoryLock = { release(): void };

/**
 * Locks `DATA_DIR` for this process. The operating system releases the lock when the process exits, even if it is killed. The
 * lock file remains, and contains the PID of the last holder.
 * @throws DataDirectoryInUseError if another running Parley holds the lock.
 */
export function lockDirectory(dataDir: string): DirectoryLock {
  const path = join(dataDir, "parley.lock");
  const descriptor = openSync(path, "a+", 0o600);
  if (!tryLock(descriptor)) {
    closeSync(descriptor);
    const holder = readFileSync(path, "utf8").trim();
    throw new DataDirectoryInUseError(
      `Another Parley${holder ? ` (process ${holder})` : ""} is running on DATA_DIR ${dataDir}; stop it, or set a different DATA_DIR.`,
    );
  }
  ftruncateSync(descriptor);
  writeSync(descriptor, `${process.pid}\n`);
  let isHeld = true;
  return {
    release() {
      if (isHeld) closeSync(descriptor);
      isHeld = false;
    },
  };
}

function tryLock(descriptor: number): boolean {
  const libc = dlopen(LIBC, { flock: { args: ["i32", "i32"], returns: "i32" } });
  try {
    return libc.symbols.flock(descriptor, LOCK_EXCLUSIVE | LOCK_NO_WAIT) === 0;
  } finally {
    libc.close();
  }
}
