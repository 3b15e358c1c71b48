import { existsSync, readdirSync, readlinkSync, renameSync, rmdirSync, rmSync } from "node:fs";
import { join } from "node:path";

const LOOKS_MAX = 40;
const LOOK_PAUSE_MS = 50;

/**
 * Notes which PostgreSQL versions are in a folder that is shared by all Parleys of this machine (src/db/embedded.ts). Only
 * servers that run as root use it.
 * @returns a function that removes the versions added since, unless a process uses them by now.
 */
export function noteSharedPrograms(folder: string): () => Promise<void> {
  const existed = existsSync(folder);
  const before = new Set(listVersions(folder));
  return async () => {
    for (const name of listVersions(folder)) if (!before.has(name)) await removeUnused(join(folder, name));
    if (!existed && existsSync(folder) && readdirSync(folder).length === 0) rmdirSync(folder);
  };
}

const listVersions = (folder: string): string[] =>
  existsSync(folder) ? readdirSync(folder).filter((name) => name.startsWith("postgres-")) : [];

/** Renames it first, so that a server that starts meanwhile is noticed, or unpacks it again. */
async function removeUnused(path: string): Promise<void> {
  // Processes of a killed Postgres take a moment to end.
  for (let looks = 1; isUsed(path); looks += 1) {
    if (looks >= LOOKS_MAX) return;
    await Bun.sleep(LOOK_PAUSE_MS);
  }
  // If this process is killed now, the next start removes a folder of this name.
  const aside = `${path}.tmp-${process.pid}`;
  renameSync(path, aside);
  if (isUsed(aside) && !existsSync(path)) renameSync(aside, path);
  else rmSync(aside, { recursive: true, force: true });
}

/** Whether a process runs a program in this folder. Where that can't be known (macOS), it counts as used. */
function isUsed(folder: string): boolean {
  if (!existsSync("/proc/self/exe")) return true;
  return readdirSync("/proc").some((pid) => {
    try {
      return /^\d+$/.test(pid) && readlinkSync(`/proc/${pid}/exe`).startsWith(`${folder}/`);
    } catch {
      // It has ended, or is a kernel thread.
      return false;
    }
  });
}
