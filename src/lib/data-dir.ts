import { accessSync, chmodSync, constants, mkdirSync, realpathSync, type Stats, statSync } from "node:fs";
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

/**
 * Why this user can't work in `DATA_DIR`, with the remedy; null if it can, and for a folder that isn't there. The usual cases
 * are the volume of a container that belongs to root, and a container that runs as another user than the volume was made for.
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
  const status = findStatus(path);
  if (status && !status.isDirectory()) return null;
  const owner = status?.uid;
  if (owner === undefined)
    return `User ${uid} may not pass the folders above DATA_DIR ${path}; open them (chmod o+x), or set another DATA_DIR.`;
  if (owner === uid) return `User ${uid} owns DATA_DIR ${path}, but may not write to it; run \`chmod u+rwx ${path}\`.`;
  // Nobody is told to run it as root.
  const asOwner = owner === 0 ? "" : ` start Parley as user ${owner},`;
  return `User ${uid} may not use DATA_DIR ${path}, which belongs to user ${owner}; run \`chown -R ${uid}:${gid}\` on that folder or volume,${asOwner} or set another DATA_DIR.`;
}

function findStatus(path: string): Stats | null {
  try {
    return statSync(path);
  } catch {
    return null;
  }
}
