import {
  chmodSync,
  closeSync,
  copyFileSync,
  fsyncSync,
  linkSync,
  openSync,
  renameSync,
  rmSync,
  statSync,
} from "node:fs";
import { dirname } from "node:path";

export const getPreviousPath = (target: string): string => `${target}.previous`;

/**
 * Replaces `target` with the new executable, and keeps the old one as `<target>.previous`. Both steps are renames, so `target`
 * is always a complete executable, and running processes keep using the old file.
 * @param options `keepOld`: whether to keep the old executable. False if both are the same, so that an existing `.previous` isn't
 * overwritten.
 */
export function replaceExecutable(stagedPath: string, target: string, { keepOld }: { keepOld: boolean }): void {
  if (keepOld) {
    const temporaryPreviousPath = `${stagedPath}-previous`;
    rmSync(temporaryPreviousPath, { force: true });
    try {
      try {
        linkSync(target, temporaryPreviousPath);
      } catch {
        // The file system may not support hard links, or the kernel may forbid them (`fs.protected_hardlinks`).
        copyFileSync(target, temporaryPreviousPath);
        chmodSync(temporaryPreviousPath, statSync(target).mode & 0o777);
      }
      renameSync(temporaryPreviousPath, getPreviousPath(target));
    } finally {
      rmSync(temporaryPreviousPath, { force: true });
    }
  }
  renameSync(stagedPath, target);
  const folder = openSync(dirname(target), "r");
  try {
    fsyncSync(folder);
  } finally {
    closeSync(folder);
  }
}
