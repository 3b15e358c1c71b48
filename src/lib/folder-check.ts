import { accessSync, constants, statSync } from "node:fs";
import { dirname, resolve } from "node:path";

/**
 * Explains why files can't be written to a folder and how to fix it. Returns null if they can, or if a missing folder can be
 * created.
 */
export function findFolderProblem(path: string): string | null {
  const folder = resolve(path);
  const uid = process.getuid?.();
  let nearestExisting = folder;
  try {
    while (!statSync(nearestExisting, { throwIfNoEntry: false }) && dirname(nearestExisting) !== nearestExisting)
      nearestExisting = dirname(nearestExisting);
    if (!statSync(nearestExisting).isDirectory()) return `${nearestExisting} is not a folder; use a folder.`;
    accessSync(nearestExisting, constants.W_OK | constants.X_OK);
    return null;
  } catch (error) {
    const code = error instanceof Error && "code" in error ? error.code : "";
    if (code === "ENOTDIR") return `a part of ${folder} is a file; use a folder.`;
    if (code === "EROFS") return `${nearestExisting} is read-only; use a different folder, or mount it writable.`;
    const missing = nearestExisting === folder ? "" : ` (${folder} doesn't exist yet)`;
    return `user ${uid} can't write to ${nearestExisting}${missing}; change its owner (chown ${uid}), or use a different folder.`;
  }
}
