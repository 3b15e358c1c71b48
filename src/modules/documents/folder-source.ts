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

/** Maximum number of entries visited per scan, in case a large folder is configured by mistake. */
const ENTRIES_MAX = 100_000;

const unreadableFileCodes = new Set([
  "ENOENT",
  "ENOTDIR",
  "ELOOP",
  "EACCES",
  "EPERM",
  "ENAMETOOLONG",
  "EISDIR",
  "ENXIO",
]);

/**
 * Creates the source of the documents in a folder. Links to files inside the folder are followed, because mounted Kubernetes volumes
 * consist of such links. Links to folders aren't followed.
 */
export function createFolderSource(folder: string): DocumentSource {
  return {
    async list() {
      const scan: Scan = { root: await realpath(folder), entries: [], skipped: [], visitedCount: 0 };
      await walkFolder(scan, await readdir(scan.root, { withFileTypes: true }), []);
      return { entries: scan.entries, skipped: scan.skipped };
    },
    async read(path) {
      const names = splitDocumentPath(path);
      if (names === null) return null;
      try {
        const root = await realpath(folder);
        const filePath = join(root, ...names);
        if ((await realpath(dirname(filePath))) !== dirname(filePath)) return null;
        const realFilePath = await realpath(filePath);
        return isInside(root, realFilePath) ? await readDocument(path, realFilePath) : null;
      } catch (error) {
        if (isUnreadableFileError(error)) return null;
        throw error;
      }
    },
  };
}

type Scan = { root: string; entries: DocumentEntry[]; skipped: SkippedFile[]; visitedCount: number };

async function walkFolder(scan: Scan, dirents: Dirent[], parentNames: string[]): Promise<void> {
  for (const dirent of dirents.sort((a, b) => (a.name < b.name ? -1 : 1))) {
    if (++scan.visitedCount > ENTRIES_MAX) return;
    if (!isVisibleName(dirent.name)) continue;
    const names = [...parentNames, dirent.name];
    if (dirent.isDirectory()) await enterFolder(scan, names);
    else if (dirent.name.endsWith(".md")) await addFile(scan, names, dirent.isSymbolicLink());
  }
}

async function enterFolder(scan: Scan, names: string[]): Promise<void> {
  if (names.length >= PATH_DEPTH_MAX) return addSkipped(scan, names, `deeper than ${PATH_DEPTH_MAX} names`);
  try {
    await walkFolder(scan, await readdir(join(scan.root, ...names), { withFileTypes: true }), names);
  } catch (error) {
    if (!isUnreadableFileError(error)) throw error;
    addSkipped(scan, names, "can't be read");
  }
}

async function addFile(scan: Scan, names: string[], isLink: boolean): Promise<void> {
  const path = names.join("/");
  const filePath = join(scan.root, ...names);
  if (splitDocumentPath(path) === null) return addSkipped(scan, names, "its path is too long");
  try {
    if (isLink && !isInside(scan.root, await realpath(filePath)))
      return addSkipped(scan, names, "a link out of the folder");
    const stats = await stat(filePath);
    if (!stats.isFile()) return addSkipped(scan, names, "not a regular file");
    if (stats.size > FILE_BYTES_MAX) return addSkipped(scan, names, `larger than ${FILE_BYTES_MAX} bytes`);
    if (scan.entries.length >= FILES_MAX) return addSkipped(scan, names, `more than ${FILES_MAX} documents`);
    scan.entries.push({ path, stamp: createStamp(stats) });
  } catch (error) {
    if (!isUnreadableFileError(error)) throw error;
    addSkipped(scan, names, "can't be read");
  }
}

function addSkipped(scan: Scan, names: string[], reason: string): void {
  scan.skipped.push({ path: names.join("/"), reason });
}

// A replaced file may have the same mtime and size, but its inode or ctime differs.
function createStamp({ size, mtimeMs, ctimeMs, ino }: Stats): string {
  return `${size}:${mtimeMs}:${ctimeMs}:${ino}`;
}

function isInside(root: string, target: string): boolean {
  return target.startsWith(root.endsWith(sep) ? root : root + sep);
}

/** Reads a file. Opening it doesn't follow further links, and doesn't block on a pipe. @param realFilePath the path without links. */
async function readDocument(path: string, realFilePath: string): Promise<DocumentFile | null> {
  const handle = await open(realFilePath, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
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

function isUnreadableFileError(error: unknown): boolean {
  return (
    error instanceof Error && "code" in error && typeof error.code === "string" && unreadableFileCodes.has(error.code)
  );
}
