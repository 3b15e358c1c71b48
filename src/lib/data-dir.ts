import { accessSync, chmodSync, constants, mkdirSync, realpathSync, type Stats, statSync } from "node:fs";
import { dirname, resolve } from "node:path";

/**
 * Creates `DATA_DIR` if it is missing; the only place that does. It is closed to other users. One created by root lets them
 * pass through (without listing it), since the embedded Postgres runs as another user inside. So do the parent folders
 * created here. Existing folders are not changed.
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
 * Why this user can't work in `DATA_DIR`, with the remedy; null if it can, or if the folder doesn't exist. The usual causes are
 * a container volume owned by root, and a container with another user than the owner of its volume.
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
    return `User ${uid} can't enter the parent folders of DATA_DIR ${path}; open them (chmod o+x), or set another DATA_DIR.`;
  if (owner === uid) return `User ${uid} owns DATA_DIR ${path}, but can't write to it; run \`chmod u+rwx ${path}\`.`;
  // Never recommend running as root.
  const asOwner = owner === 0 ? "" : ` start Parley as user ${owner},`;
  return `User ${uid} can't use DATA_DIR ${path}, which belongs to user ${owner}; run \`chown -R ${uid}:${gid}\` on that folder or volume,${asOwner} or set another DATA_DIR.`;
}

function findStatus(path: string): Stats | null {
  try {
    return statSync(path);
  } catch {
    return null;
  }
}
