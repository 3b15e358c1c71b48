import { accessSync, constants, statSync } from "node:fs";
import { dirname, resolve } from "node:path";

/**
 * Explains why files can't be written to a folder and how to fix it. Returns null if they can, or if a missing folder can be
 * created.
 */
export function findFolderProblem(path: string): string | null {
  const folder = resolve(path);
  const uid = process.getuid?.();
  let nearest = folder;
  try {
    while (!statSync(nearest, { throwIfNoEntry: false }) && dirname(nearest) !== nearest) nearest = dirname(nearest);
    if (!statSync(nearest).isDirectory()) return `${nearest} is not a folder; use one.`;
    accessSync(nearest, constants.W_OK | constants.X_OK);
    return null;
  } catch (error) {
    const code = error instanceof Error && "code" in error ? error.code : "";
    if (code === "ENOTDIR") return `a part of ${folder} is a file; use a folder.`;
    if (code === "EROFS") return `${nearest} is read-only; use another folder, or mount it writable.`;
    const missing = nearest === folder ? "" : ` (${folder} doesn't exist yet)`;
    return `user ${uid} can't write to ${nearest}${missing}; change its owner (chown ${uid}), or use another folder.`;
  }
}
