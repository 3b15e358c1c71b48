import { randomBytes } from "node:crypto";
import { constants, lstatSync, readdirSync, realpathSync, rmSync, statSync } from "node:fs";
import { type FileHandle, link, open, rename, rm } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";
import type { ByteSource } from "./byte-reader.ts";
import { ArchiveError } from "./error.ts";
import type { Sink } from "./writer.ts";

/** What stands for stdin and stdout. */
export const STREAM = "-";
const MODE = 0o600;
const partialName = /^\.(.+)\.(\d+)-[0-9a-f]{8}\.partial$/;

const createFault = (message: string): ArchiveError => new ArchiveError("file", message);

export interface BackupFile {
  write: Sink;
  /** Gives the file its name, once it is on the disk. @throws ArchiveError when somebody else took the name meanwhile. */
  finish(): Promise<void>;
  /** Removes what was written. */
  discard(): Promise<void>;
}

/**
 * Opens a file that gets its name when it is whole: until then it has a hidden one beside it, which `discard` and the next
 * backup of the same name remove.
 * @throws ArchiveError when it can't be made, or is there and `isForced` is not set.
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
    // A link to nowhere would be replaced by the file.
    if (lstatSync(absolute, { throwIfNoEntry: false }))
      throw createFault(`${path} is a link to a file that is missing; name the file itself.`);
    return absolute;
  }
  if (status.isDirectory()) throw createFault(`${path} is a folder; name a file in it.`);
  if (!status.isFile())
    throw createFault(`${path} is no ordinary file; name one, or use \`-\` to write to standard output.`);
  if (!isForced) throw createExists(path);
  return realpathSync(absolute);
}

const createExists = (path: string) =>
  createFault(`${path} exists already; name another file, or use --force to replace it.`);

/** Of a process that was killed while it wrote a backup of this name. */
function removePartial(folder: string, name: string): void {
  let names: string[] = [];
  try {
    names = readdirSync(folder);
  } catch {
    // It is told when the file is made.
  }
  for (const found of names) {
    const [, ofName, pid] = partialName.exec(found) ?? [];
    // PIDs repeat in a container: one with our own is not ours, since ours is not there yet.
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

/** A link fails if the name is taken meanwhile, unlike a rename. Some file systems have none. */
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

/** So that the name survives a power failure too. */
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
      return createFault(`The disk of ${folder} is full; make room there, or name a file on another disk.`);
    case "EFBIG":
      return createFault(`${path} would be larger than this system allows; name a file on another disk.`);
    case "EACCES":
    case "EPERM":
      return createFault(`This user may not write in ${folder}; name a file in another folder.`);
    case "EROFS":
      return createFault(`${folder} is read-only; name a file in another folder.`);
    case "ENOENT":
      return createFault(`There is no folder ${folder}; make it, or name a file in another one.`);
    case "ENOTDIR":
      return createFault(`${folder} is no folder; name a file in one.`);
    case "ENAMETOOLONG":
      return createFault("The name of the file is too long; give a shorter one.");
    default:
      return error;
  }
}

const PIECE_BYTES = 256 * 1024;

export type OpenBackup = {
  source: ByteSource;
  /** Null for what is no ordinary file. */
  sizeBytes: number | null;
  /** How much of it was read, from 0 to 1; null when that cannot be told. */
  findDone(): number | null;
};

/**
 * Opens a backup for reading; `-` is standard input.
 * @throws ArchiveError when it can't be read.
 */
export async function openBackupFile(path: string): Promise<OpenBackup> {
  if (path === STREAM) {
    if (process.stdin.isTTY)
      throw createFault("Standard input is a terminal; name the file, or send a backup to standard input.");
    return { source: Bun.stdin.stream(), sizeBytes: null, findDone: () => null };
  }
  try {
    const file = await open(path, "r");
    const status = await file.stat();
    if (status.isDirectory()) {
      await file.close();
      throw createFault(`${path} is a folder; name a backup in it.`);
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
      return createFault(`There is no file ${path}; name a backup that \`parley backup\` made.`);
    case "EACCES":
    case "EPERM":
      return createFault(`This user may not read ${path}; run this as its owner, or change its rights.`);
    case "EIO":
      return createFault(`${path} cannot be read (input/output error); its disk may be failing, so use another copy.`);
    default:
      return error;
  }
}
