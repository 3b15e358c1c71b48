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

export const previousOf = (target: string): string => `${target}.previous`;

/**
 * Puts the new executable in the place of `target`, which stays as `<target>.previous`. Both are renames: at every moment
 * there is a whole executable at `target`, and a running process keeps the file that it was started from.
 * @param options `keepsPrevious` is false if both are the same: then an older `.previous` is worth more.
 */
export function replaceExecutable(draft: string, target: string, { keepsPrevious }: { keepsPrevious: boolean }): void {
  if (keepsPrevious) {
    const kept = `${draft}-previous`;
    rmSync(kept, { force: true });
    try {
      try {
        linkSync(target, kept);
      } catch {
        // File systems without hard links, and systems that protect the files of others.
        copyFileSync(target, kept);
        chmodSync(kept, statSync(target).mode & 0o777);
      }
      renameSync(kept, previousOf(target));
    } finally {
      rmSync(kept, { force: true });
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
