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
 * Replaces `target` with the new executable, and keeps the old one as `<target>.previous`. Both steps are renames, so `target`
 * is a complete executable at all times, and running processes keep their own file.
 * @param options `keepsPrevious`: false if old and new are the same file, because an existing `.previous` is more useful then.
 */
export function replaceExecutable(draft: string, target: string, { keepsPrevious }: { keepsPrevious: boolean }): void {
  if (keepsPrevious) {
    const kept = `${draft}-previous`;
    rmSync(kept, { force: true });
    try {
      try {
        linkSync(target, kept);
      } catch {
        // For file systems without hard links, and systems with protected hard links.
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
