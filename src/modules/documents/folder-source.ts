import { constants, type Dirent, type Stats } from "node:fs";
import { open, readdir, realpath, stat } from "node:fs/promises";
import { dirname, join, sep } from "node:path";
import { isVisibleName, PATH_DEPTH_MAX, splitDocumentPath } from "./paths.ts";
import {
  createDocumentFile,
  type DocumentEntry,
  type DocumentFile,
  type DocumentSource,
  FILE_BYTES_MAX,
  FILES_MAX,
  type SkippedFile,
} from "./source.ts";

/** Entries visited per walk, so that a large folder configured by mistake costs little. */
const ENTRIES_MAX = 100_000;

const absentCodes = new Set(["ENOENT", "ENOTDIR", "ELOOP", "EACCES", "EPERM", "ENAMETOOLONG", "EISDIR", "ENXIO"]);

/**
 * Serves the documents in a folder. Links to files inside the folder are followed, because mounted Kubernetes volumes
 * consist of such links. Links to folders aren't followed.
 */
export function createFolderSource(folder: string): DocumentSource {
  return {
    async list() {
      const walk: Walk = { root: await realpath(folder), entries: [], skipped: [], entriesSeen: 0 };
      await walkFolder(walk, await readdir(walk.root, { withFileTypes: true }), []);
      return { entries: walk.entries, skipped: walk.skipped };
    },
    async read(path) {
      const names = splitDocumentPath(path);
      if (names === null) return null;
      try {
        const root = await realpath(folder);
        const file = join(root, ...names);
        if ((await realpath(dirname(file))) !== dirname(file)) return null;
        const target = await realpath(file);
        return isInside(root, target) ? await readDocument(path, target) : null;
      } catch (error) {
        if (isAbsent(error)) return null;
        throw error;
      }
    },
  };
}

type Walk = { root: string; entries: DocumentEntry[]; skipped: SkippedFile[]; entriesSeen: number };

async function walkFolder(walk: Walk, dirents: Dirent[], parentNames: string[]): Promise<void> {
  for (const dirent of dirents.sort((a, b) => (a.name < b.name ? -1 : 1))) {
    if (++walk.entriesSeen > ENTRIES_MAX) return;
    if (!isVisibleName(dirent.name)) continue;
    const names = [...parentNames, dirent.name];
    if (dirent.isDirectory()) await enterFolder(walk, names);
    else if (dirent.name.endsWith(".md")) await addFile(walk, names, dirent.isSymbolicLink());
  }
}

async function enterFolder(walk: Walk, names: string[]): Promise<void> {
  if (names.length >= PATH_DEPTH_MAX) return skip(walk, names, `deeper than ${PATH_DEPTH_MAX} names`);
  try {
    await walkFolder(walk, await readdir(join(walk.root, ...names), { withFileTypes: true }), names);
  } catch (error) {
    if (!isAbsent(error)) throw error;
    skip(walk, names, "can't be read");
  }
}

async function addFile(walk: Walk, names: string[], isLink: boolean): Promise<void> {
  const path = names.join("/");
  const file = join(walk.root, ...names);
  if (splitDocumentPath(path) === null) return skip(walk, names, "its path is too long");
  try {
    if (isLink && !isInside(walk.root, await realpath(file))) return skip(walk, names, "a link out of the folder");
    const stats = await stat(file);
    if (!stats.isFile()) return skip(walk, names, "not a regular file");
    if (stats.size > FILE_BYTES_MAX) return skip(walk, names, `larger than ${FILE_BYTES_MAX} bytes`);
    if (walk.entries.length >= FILES_MAX) return skip(walk, names, `more than ${FILES_MAX} documents`);
    walk.entries.push({ path, stamp: createStamp(stats) });
  } catch (error) {
    if (!isAbsent(error)) throw error;
    skip(walk, names, "can't be read");
  }
}

function skip(walk: Walk, names: string[], reason: string): void {
  walk.skipped.push({ path: names.join("/"), reason });
}

// A replaced file may have the same mtime and size, but its inode or ctime differs.
function createStamp({ size, mtimeMs, ctimeMs, ino }: Stats): string {
  return `${size}:${mtimeMs}:${ctimeMs}:${ino}`;
}

function isInside(root: string, target: string): boolean {
  return target.startsWith(root.endsWith(sep) ? root : root + sep);
}

/** Reads a file. `target` is a real path. Opening it follows no further links, and doesn't block on a pipe. */
async function readDocument(path: string, target: string): Promise<DocumentFile | null> {
  const handle = await open(target, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  try {
    const stats = await handle.stat();
    if (!stats.isFile() || stats.size > FILE_BYTES_MAX) return null;
    const buffer = Buffer.alloc(stats.size);
    let bytes = 0;
    while (bytes < buffer.byteLength) {
      const { bytesRead } = await handle.read(buffer, bytes, buffer.byteLength - bytes, bytes);
      if (bytesRead === 0) break;
      bytes += bytesRead;
    }
    return createDocumentFile(path, buffer.subarray(0, bytes), stats.mtime);
  } finally {
    await handle.close();
  }
}

function isAbsent(error: unknown): boolean {
  return error instanceof Error && "code" in error && typeof error.code === "string" && absentCodes.has(error.code);
}
