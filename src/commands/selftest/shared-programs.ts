import { existsSync, readdirSync, readlinkSync, renameSync, rmdirSync, rmSync } from "node:fs";
import { join } from "node:path";

const USE_CHECKS_MAX = 40;
const CHECK_INTERVAL_MS = 50;

/**
 * Records the PostgreSQL versions in a folder that is shared by all Parley servers that run as root on this machine
 * (src/db/embedded.ts).
 * @returns a function that removes the versions that were added after the call, unless a process uses them.
 */
export function recordSharedPrograms(folder: string): () => Promise<void> {
  const folderExisted = existsSync(folder);
  const existingVersions = new Set(listVersions(folder));
  return async () => {
    for (const name of listVersions(folder)) if (!existingVersions.has(name)) await removeUnused(join(folder, name));
    if (!folderExisted && existsSync(folder) && readdirSync(folder).length === 0) rmdirSync(folder);
  };
}

const listVersions = (folder: string): string[] =>
  existsSync(folder) ? readdirSync(folder).filter((name) => name.startsWith("postgres-")) : [];

/**
 * Removes a version unless it is in use. The version is renamed first. If a server starts at this moment, it either already uses the
 * version, which is detected, or doesn't find it and unpacks a new copy.
 */
async function removeUnused(path: string): Promise<void> {
  // A killed Postgres takes a moment to exit.
  for (let attempts = 1; isUsed(path); attempts += 1) {
    if (attempts >= USE_CHECKS_MAX) return;
    await Bun.sleep(CHECK_INTERVAL_MS);
  }
  // If this process is killed, the next server start removes folders with such names.
  const temporaryPath = `${path}.tmp-${process.pid}`;
  renameSync(path, temporaryPath);
  if (isUsed(temporaryPath) && !existsSync(path)) renameSync(temporaryPath, path);
  else rmSync(temporaryPath, { recursive: true, force: true });
}

/** Returns whether a process runs a program in this folder. On macOS this can't be determined, so the folder counts as used. */
function isUsed(folder: string): boolean {
  if (!existsSync("/proc/self/exe")) return true;
  return readdirSync("/proc").some((pid) => {
    try {
      return /^\d+$/.test(pid) && readlinkSync(`/proc/${pid}/exe`).startsWith(`${folder}/`);
    } catch {
      // The process has exited, or is a kernel thread.
      return false;
    }
  });
}
