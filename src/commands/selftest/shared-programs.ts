import { existsSync, readdirSync, readlinkSync, renameSync, rmdirSync, rmSync } from "node:fs";
import { join } from "node:path";

const CHECKS_MAX = 40;
const CHECK_INTERVAL_MS = 50;

/**
 * Records which PostgreSQL versions are in the folder that all Parley servers of this machine share if they run as root
 * (src/db/embedded.ts).
 * @returns a function that removes versions added since then, unless a process uses them.
 */
export function recordSharedPrograms(folder: string): () => Promise<void> {
  const existed = existsSync(folder);
  const before = new Set(listVersions(folder));
  return async () => {
    for (const name of listVersions(folder)) if (!before.has(name)) await removeUnused(join(folder, name));
    if (!existed && existsSync(folder) && readdirSync(folder).length === 0) rmdirSync(folder);
  };
}

const listVersions = (folder: string): string[] =>
  existsSync(folder) ? readdirSync(folder).filter((name) => name.startsWith("postgres-")) : [];

/** Removes a version unless it is in use. Renames it first, so that a server starting now is noticed or unpacks its own copy. */
async function removeUnused(path: string): Promise<void> {
  // The processes of a killed Postgres take a moment to exit.
  for (let looks = 1; isUsed(path); looks += 1) {
    if (looks >= CHECKS_MAX) return;
    await Bun.sleep(CHECK_INTERVAL_MS);
  }
  // If this process is killed, the next start removes folders with such names.
  const aside = `${path}.tmp-${process.pid}`;
  renameSync(path, aside);
  if (isUsed(aside) && !existsSync(path)) renameSync(aside, path);
  else rmSync(aside, { recursive: true, force: true });
}

/** Whether a process runs a program in this folder. Where that can't be determined (macOS), the folder counts as used. */
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
