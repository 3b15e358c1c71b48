import { accessSync, chmodSync, constants, mkdirSync, realpathSync, type Stats, statSync } from "node:fs";
import { dirname, resolve } from "node:path";

/**
 * Creates `DATA_DIR` if it is missing, without access for other users. If root creates it, other users can enter it, but not
 * list its files, because the embedded Postgres runs as a different user. The same applies to parent folders that are created
 * too. Existing folders aren't changed.
 * @returns the path of the folder without symbolic links.
 */
export function openDataDir(dataDir: string): string {
  const isRoot = process.getuid?.() === 0;
  const path = resolve(dataDir);
  const firstCreated = mkdirSync(path, { recursive: true });
  if (firstCreated !== undefined) {
    chmodSync(path, isRoot ? 0o711 : 0o700);
    if (isRoot)
      for (let folder = path; folder.startsWith(`${firstCreated}/`); folder = dirname(folder))
        chmodSync(dirname(folder), statSync(dirname(folder)).mode | 0o011);
  }
  return realpathSync(path);
}

/**
 * Explains why the process's user can't use `DATA_DIR` and how to fix it. Returns null if the user can use it or it doesn't
 * exist. The usual cause is a container volume that belongs to root or another user.
 */
export function findDataDirProblem(dataDir: string): string | null {
  const path = resolve(dataDir);
  const uid = process.getuid?.();
  const gid = process.getgid?.();
  try {
    accessSync(path, constants.R_OK | constants.W_OK | constants.X_OK);
    return null;
  } catch (error) {
    const code = error instanceof Error && "code" in error ? error.code : undefined;
    if (code !== "EACCES" && code !== "EPERM") return null;
  }
  const stats = findStats(path);
  if (stats && !stats.isDirectory()) return null;
  const owner = stats?.uid;
  if (owner === undefined)
    return `User ${uid} can't enter the parent folders of DATA_DIR ${path}; open them (chmod o+x), or set a different DATA_DIR.`;
  if (owner === uid) return `User ${uid} owns DATA_DIR ${path}, but can't write to it; run \`chmod u+rwx ${path}\`.`;
  // Never recommends running as root.
  const asOwner = owner === 0 ? "" : ` start Parley as user ${owner},`;
  return `User ${uid} can't use DATA_DIR ${path}, which belongs to user ${owner}; run \`chown -R ${uid}:${gid}\` on that folder or volume,${asOwner} or set a different DATA_DIR.`;
}

function findStats(path: string): Stats | null {
  try {
    return statSync(path);
  } catch {
    return null;
  }
}
