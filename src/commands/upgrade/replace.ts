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
 * @param options `savesOld`: false if the new executable is the same as the old one, so that an existing `.previous` isn't
 * overwritten.
 */
export function replaceExecutable(draft: string, target: string, { savesOld }: { savesOld: boolean }): void {
  if (savesOld) {
    const temporaryPrevious = `${draft}-previous`;
    rmSync(temporaryPrevious, { force: true });
    try {
      try {
        linkSync(target, temporaryPrevious);
      } catch {
        // The file system may not support hard links, or the kernel may forbid them (`fs.protected_hardlinks`).
        copyFileSync(target, temporaryPrevious);
        chmodSync(temporaryPrevious, statSync(target).mode & 0o777);
      }
      renameSync(temporaryPrevious, getPreviousPath(target));
    } finally {
      rmSync(temporaryPrevious, { force: true });
    }
  }
  renameSync(draft, target);
  const folder = openSync(dirname(target), "r");
  try {
    fsyncSync(folder);
  } finally {
    closeSync(folder);
  }
}
