import { chmodSync, mkdirSync, realpathSync, statSync } from "node:fs";
import { dirname, resolve } from "node:path";

/**
 * Makes `DATA_DIR` if it is missing; the only place that does. It is closed to other users, with one exception: root's
 * lets them pass through (not look), since the embedded Postgres runs as another user inside. So do the folders above
 * it that had to be made. Existing folders stay as they are.
 * @returns the folder without symbolic links.
 */
export function openDataDir(dataDir: string): string {
  const isRoot = process.getuid?.() === 0;
  const path = resolve(dataDir);
  const first = mkdirSync(path, { recursive: true });
  if (first !== undefined) {
    chmodSync(path, isRoot ? 0o711 : 0o700);
    if (isRoot)
      for (let folder = path; folder.startsWith(`${first}/`); folder = dirname(folder))
        chmodSync(dirname(folder), statSync(dirname(folder)).mode | 0o011);
  }
  return realpathSync(path);
}
