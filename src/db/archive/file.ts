import { randomBytes } from "node:crypto";
import { constants, lstatSync, readdirSync, realpathSync, rmSync, statSync } from "node:fs";
import { type FileHandle, link, open, rename, rm } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";
import type { ByteSource } from "./byte-reader.ts";
import { ArchiveError } from "./error.ts";
import type { Sink } from "./writer.ts";

/** The file name that means stdin or stdout. */
export const STDIO = "-";
const FILE_MODE = 0o600;
const partialName = /^\.(.+)\.(\d+)-[0-9a-f]{8}\.partial$/;

const createFileError = (message: string): ArchiveError => new ArchiveError("file", message);

export interface BackupFile {
  write: Sink;
  /** Flushes the file to disk and renames it to its final name. @throws ArchiveError if a file with that name already exists. */
  finish(): Promise<void>;
  /** Removes the partial file. */
  discard(): Promise<void>;
}

/**
 * Creates a backup file. It has a hidden temporary name in the same folder until it is complete. An incomplete file is removed by
 * `discard`, or by the next backup with the same name.
 * @throws ArchiveError if the file can't be created, or if it exists and `canReplace` is false.
 */
export async function createBackupFile(path: string, canReplace: boolean): Promise<BackupFile> {
  const targetPath = resolveTarget(path, canReplace);
  const folder = dirname(targetPath);
  removeStalePartials(folder, basename(targetPath));
  const suffix = randomBytes(4).toString("hex");
  const partialPath = join(folder, `.${basename(targetPath)}.${process.pid}-${suffix}.partial`);
  const file = await open(partialPath, "wx", FILE_MODE).catch((error: unknown) => {
    throw explainWriteError(error, path);
  });
  let isClosed = false;
  const close = async () => {
    if (isClosed) return;
    isClosed = true;
    await file.close();
  };

  return {
    write: (bytes) => writeAll(file, bytes).catch((error: unknown) => Promise.reject(explainWriteError(error, path))),

    async finish() {
      try {
        await file.sync();
        await close();
        if (canReplace) await rename(partialPath, targetPath);
        else await moveIntoPlace(partialPath, targetPath, path);
        await syncFolder(folder);
      } catch (error) {
        throw explainWriteError(error, path);
      }
    },

    async discard() {
      await close().catch(() => {});
      await rm(partialPath, { force: true });
    },
  };
}

function resolveTarget(path: string, canReplace: boolean): string {
  const absolute = resolve(path);
  let status: ReturnType<typeof statSync>;
  try {
    status = statSync(absolute, { throwIfNoEntry: false });
  } catch (error) {
    throw explainWriteError(error, path);
  }
  if (!status) {
    // `path` is a dangling link. The backup would replace the link instead of writing to its target.
    if (lstatSync(absolute, { throwIfNoEntry: false }))
      throw createFileError(`${path} is a link to a missing file; specify the file itself.`);
    return absolute;
  }
  if (status.isDirectory()) throw createFileError(`${path} is a folder; specify a file in it.`);
  if (!status.isFile())
    throw createFileError(`${path} is not a regular file; specify one, or use \`-\` to write to standard output.`);
  if (!canReplace) throw createExistsError(path);
  return realpathSync(absolute);
}

const createExistsError = (path: string) =>
  createFileError(`${path} already exists; specify a different file, or use --force to replace it.`);

/** Removes files left by processes that were killed while writing a backup with this name. */
function removeStalePartials(folder: string, name: string): void {
  let names: string[] = [];
  try {
    names = readdirSync(folder);
  } catch {
    // The error is reported when the file is created.
  }
  for (const fileName of names) {
    const [, targetName, pid] = partialName.exec(fileName) ?? [];
    // PIDs are reused in containers. A file with this process's PID belongs to an earlier process, because this process hasn't
    // created its file yet.
    if (targetName === name && (Number(pid) === process.pid || !isAlive(Number(pid))))
      rmSync(join(folder, fileName), { force: true });
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return error instanceof Error && "code" in error && error.code === "EPERM";
  }
}

async function writeAll(file: FileHandle, bytes: Uint8Array): Promise<void> {
  for (let writtenBytes = 0; writtenBytes < bytes.length; ) {
    const { bytesWritten } = await file.write(bytes, writtenBytes, bytes.length - writtenBytes);
    writtenBytes += bytesWritten;
  }
}

/**
 * Renames the file to its final name. Creates a hard link, which fails if the name is taken. If hard links aren't supported, renames the
 * file directly.
 */
async function moveIntoPlace(partial: string, target: string, path: string): Promise<void> {
  try {
    await link(partial, target);
    await rm(partial);
  } catch (error) {
    if (getErrorCode(error) === "EEXIST") throw createExistsError(path);
    if (statSync(target, { throwIfNoEntry: false })) throw createExistsError(path);
    await rename(partial, target);
  }
}

/** Syncs the folder, so that the file's name survives a power failure. */
async function syncFolder(folder: string): Promise<void> {
  const openedFolder = await open(folder, constants.O_RDONLY).catch(() => null);
  await openedFolder?.sync().catch(() => {});
  await openedFolder?.close();
}

const getErrorCode = (error: unknown): string =>
  error instanceof Error && "code" in error && typeof error.code === "string" ? error.code : "";

function explainWriteError(error: unknown, path: string): unknown {
  const folder = dirname(resolve(path));
  switch (getErrorCode(error)) {
    case "ENOSPC":
    case "EDQUOT":
      return createFileError(`The disk of ${folder} is full; free some space, or specify a file on a different disk.`);
    case "EFBIG":
      return createFileError(`${path} would be larger than this system allows; specify a file on a different disk.`);
    case "EACCES":
    case "EPERM":
      return createFileError(
        `This user has no permission to write to ${folder}; specify a file in a different folder.`,
      );
    case "EROFS":
      return createFileError(`${folder} is read-only; specify a file in a different folder.`);
    case "ENOENT":
      return createFileError(`The folder ${folder} doesn't exist; create it, or specify a file in a different folder.`);
    case "ENOTDIR":
      return createFileError(`${folder} is not a folder; specify a file in a folder.`);
    case "ENAMETOOLONG":
      return createFileError("The file name is too long; use a shorter one.");
    default:
      return error;
  }
}

const CHUNK_BYTES = 256 * 1024;

export type OpenBackup = {
  source: ByteSource;
  /** The file's size, or null if it isn't a regular file. */
  sizeBytes: number | null;
  /** Returns the fraction that has been read, from 0 to 1, or null if that is unknown. */
  getFractionRead(): number | null;
};

/**
 * Opens a backup for reading. `-` means standard input.
 * @throws ArchiveError if the backup can't be read.
 */
export async function openBackupFile(path: string): Promise<OpenBackup> {
  if (path === STDIO) {
    if (process.stdin.isTTY)
      throw createFileError("Standard input is a terminal; specify a file, or pipe a backup to standard input.");
    return { source: Bun.stdin.stream(), sizeBytes: null, getFractionRead: () => null };
  }
  try {
    const file = await open(path, "r");
    const status = await file.stat();
    if (status.isDirectory()) {
      await file.close();
      throw createFileError(`${path} is a folder; specify a backup file in it.`);
    }
    const sizeBytes = status.isFile() ? status.size : null;
    let readBytes = 0;
    const source = readChunks(file, path, (bytes) => {
      readBytes += bytes;
    });
    return { source, sizeBytes, getFractionRead: () => (sizeBytes ? Math.min(1, readBytes / sizeBytes) : null) };
  } catch (error) {
    throw explainReadError(error, path);
  }
}

async function* readChunks(file: FileHandle, path: string, onRead: (bytes: number) => void): ByteSource {
  try {
    for (;;) {
      const chunk = Buffer.allocUnsafe(CHUNK_BYTES);
      const { bytesRead } = await file.read(chunk, 0, chunk.length);
      if (bytesRead === 0) return;
      onRead(bytesRead);
      yield chunk.subarray(0, bytesRead);
    }
  } catch (error) {
    throw explainReadError(error, path);
  } finally {
    await file.close();
  }
}

function explainReadError(error: unknown, path: string): unknown {
  switch (getErrorCode(error)) {
    case "ENOENT":
    case "ENOTDIR":
      return createFileError(`The file ${path} doesn't exist; specify a backup that \`parley backup\` made.`);
    case "EACCES":
    case "EPERM":
      return createFileError(
        `This user has no permission to read ${path}; run this as its owner, or change its permissions.`,
      );
    case "EIO":
      return createFileError(
        `${path} cannot be read (input/output error); its disk may be failing, so use a different copy.`,
      );
    default:
      return error;
  }
}
