import { randomBytes } from "node:crypto";
import { constants, lstatSync, readdirSync, realpathSync, rmSync, statSync } from "node:fs";
import { type FileHandle, link, open, rename, rm } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";
import type { ByteSource } from "./byte-reader.ts";
import { ArchiveError } from "./error.ts";
import type { Sink } from "./writer.ts";

/** Means stdin or stdout. */
export const STREAM = "-";
const MODE = 0o600;
const partialName = /^\.(.+)\.(\d+)-[0-9a-f]{8}\.partial$/;

const createFault = (message: string): ArchiveError => new ArchiveError("file", message);

export interface BackupFile {
  write: Sink;
  /** Renames the file to its final name, once it is flushed to disk. @throws ArchiveError when that name has been taken. */
  finish(): Promise<void>;
  /** Removes the partial file. */
  discard(): Promise<void>;
}

/**
 * Creates a file that gets its name when it is complete. Until then it has a hidden name in the same folder, which `discard`
 * and the next backup of the same name remove.
 * @throws ArchiveError when it can't be created, or exists and `isForced` is not set.
 */
export async function createBackupFile(path: string, isForced: boolean): Promise<BackupFile> {
  const target = findTarget(path, isForced);
  const folder = dirname(target);
  removePartial(folder, basename(target));
  const suffix = randomBytes(4).toString("hex");
  const partial = join(folder, `.${basename(target)}.${process.pid}-${suffix}.partial`);
  const file = await open(partial, "wx", MODE).catch((error: unknown) => {
    throw explain(error, path);
  });
  let isClosed = false;
  const close = async () => {
    if (isClosed) return;
    isClosed = true;
    await file.close();
  };

  return {
    write: (bytes) => writeAll(file, bytes).catch((error: unknown) => Promise.reject(explain(error, path))),

    async finish() {
      try {
        await file.sync();
        await close();
        if (isForced) await rename(partial, target);
        else await publish(partial, target, path);
        await syncFolder(folder);
      } catch (error) {
        throw explain(error, path);
      }
    },

    async discard() {
      await close().catch(() => {});
      await rm(partial, { force: true });
    },
  };
}

function findTarget(path: string, isForced: boolean): string {
  const absolute = resolve(path);
  let status: ReturnType<typeof statSync>;
  try {
    status = statSync(absolute, { throwIfNoEntry: false });
  } catch (error) {
    throw explain(error, path);
  }
  if (!status) {
    // The file would replace a dangling link.
    if (lstatSync(absolute, { throwIfNoEntry: false }))
      throw createFault(`${path} is a link to a missing file; name the file itself.`);
    return absolute;
  }
  if (status.isDirectory()) throw createFault(`${path} is a folder; name a file in it.`);
  if (!status.isFile())
    throw createFault(`${path} is not a regular file; name one, or use \`-\` to write to standard output.`);
  if (!isForced) throw createExists(path);
  return realpathSync(absolute);
}

const createExists = (path: string) =>
  createFault(`${path} already exists; name another file, or use --force to replace it.`);

/** Left by a process that was killed while writing a backup of this name. */
function removePartial(folder: string, name: string): void {
  let names: string[] = [];
  try {
    names = readdirSync(folder);
  } catch {
    // Reported when the file is created.
  }
  for (const found of names) {
    const [, ofName, pid] = partialName.exec(found) ?? [];
    // PIDs repeat in a container: a file with our PID isn't ours, since ours doesn't exist yet.
    if (ofName === name && (Number(pid) === process.pid || !isAlive(Number(pid))))
      rmSync(join(folder, found), { force: true });
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
  for (let written = 0; written < bytes.length; ) {
    const { bytesWritten } = await file.write(bytes, written, bytes.length - written);
    written += bytesWritten;
  }
}

/** Unlike a rename, a link fails if the name was taken. Some file systems have no links. */
async function publish(partial: string, target: string, path: string): Promise<void> {
  try {
    await link(partial, target);
    await rm(partial);
  } catch (error) {
    if (codeOf(error) === "EEXIST") throw createExists(path);
    if (statSync(target, { throwIfNoEntry: false })) throw createExists(path);
    await rename(partial, target);
  }
}

/** Makes the name survive a power failure too. */
async function syncFolder(folder: string): Promise<void> {
  const opened = await open(folder, constants.O_RDONLY).catch(() => null);
  await opened?.sync().catch(() => {});
  await opened?.close();
}

const codeOf = (error: unknown): string =>
  error instanceof Error && "code" in error && typeof error.code === "string" ? error.code : "";

function explain(error: unknown, path: string): unknown {
  const folder = dirname(resolve(path));
  switch (codeOf(error)) {
    case "ENOSPC":
    case "EDQUOT":
      return createFault(`The disk of ${folder} is full; free some space, or name a file on another disk.`);
    case "EFBIG":
      return createFault(`${path} would be larger than this system allows; name a file on another disk.`);
    case "EACCES":
    case "EPERM":
      return createFault(`This user has no permission to write to ${folder}; name a file in another folder.`);
    case "EROFS":
      return createFault(`${folder} is read-only; name a file in another folder.`);
    case "ENOENT":
      return createFault(`The folder ${folder} doesn't exist; create it, or name a file in another folder.`);
    case "ENOTDIR":
      return createFault(`${folder} is not a folder; name a file in a folder.`);
    case "ENAMETOOLONG":
      return createFault("The file name is too long; use a shorter one.");
    default:
      return error;
  }
}

const PIECE_BYTES = 256 * 1024;

export type OpenBackup = {
  source: ByteSource;
  /** Null if it isn't a regular file. */
  sizeBytes: number | null;
  /** The fraction read, from 0 to 1; null when unknown. */
  findDone(): number | null;
};

/**
 * Opens a backup for reading; `-` is standard input.
 * @throws ArchiveError when it can't be read.
 */
export async function openBackupFile(path: string): Promise<OpenBackup> {
  if (path === STREAM) {
    if (process.stdin.isTTY)
      throw createFault("Standard input is a terminal; name a file, or pipe a backup to standard input.");
    return { source: Bun.stdin.stream(), sizeBytes: null, findDone: () => null };
  }
  try {
    const file = await open(path, "r");
    const status = await file.stat();
    if (status.isDirectory()) {
      await file.close();
      throw createFault(`${path} is a folder; name a backup file in it.`);
    }
    const sizeBytes = status.isFile() ? status.size : null;
    let readBytes = 0;
    const source = readPieces(file, path, (bytes) => {
      readBytes += bytes;
    });
    return { source, sizeBytes, findDone: () => (sizeBytes ? Math.min(1, readBytes / sizeBytes) : null) };
  } catch (error) {
    throw explainRead(error, path);
  }
}

async function* readPieces(file: FileHandle, path: string, onRead: (bytes: number) => void): ByteSource {
  try {
    for (;;) {
      const piece = Buffer.allocUnsafe(PIECE_BYTES);
      const { bytesRead } = await file.read(piece, 0, piece.length);
      if (bytesRead === 0) return;
      onRead(bytesRead);
      yield piece.subarray(0, bytesRead);
    }
  } catch (error) {
    throw explainRead(error, path);
  } finally {
    await file.close();
  }
}

function explainRead(error: unknown, path: string): unknown {
  switch (codeOf(error)) {
    case "ENOENT":
    case "ENOTDIR":
      return createFault(`The file ${path} doesn't exist; name a backup that \`parley backup\` made.`);
    case "EACCES":
    case "EPERM":
      return createFault(
        `This user has no permission to read ${path}; run this as its owner, or change its permissions.`,
      );
    case "EIO":
      return createFault(`${path} cannot be read (input/output error); its disk may be failing, so use another copy.`);
    default:
      return error;
  }
}
