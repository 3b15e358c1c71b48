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
 * Replaces `target` with the new executable. The old one is kept as `<target>.previous`. Both are renames: `target` is a
 * complete executable at every moment, and a running process keeps its own file.
 * @param options `keepsPrevious` is false if both are the same: then an existing `.previous` is more useful.
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
