import { randomUUID } from "node:crypto";
import { accessSync, chmodSync, chownSync, constants, readdirSync, rmSync, type Stats, statSync } from "node:fs";
import { open } from "node:fs/promises";
import { dirname, join } from "node:path";
import { findFreeBytes } from "../../lib/free-bytes.ts";
import { CommandError } from "../command.ts";
import { EXECUTABLE_BYTES_MAX, type ExecutableSource } from "./source.ts";

/** A download fails if no data arrives for the idle timeout, or if it takes longer than the download timeout. */
const IDLE_TIMEOUT_MS = 30_000;
const DOWNLOAD_TIMEOUT_MS = 1_800_000;
const PREFIX = ".parley-upgrade-";
const STAGED_NAME = /^\.parley-upgrade-(\d+)-[0-9a-f]{8}$/;

/** A copy of the new executable in the folder of the current one, so that an atomic rename can replace it. */
export type StagedExecutable = { path: string; sha256: string };

type Progress = (bytes: number, totalBytes: number | null) => void;

/** Checks that the executable can be replaced. @throws CommandError if its folder isn't writable. */
export function requireWritable(target: string): void {
  const folder = dirname(target);
  try {
    accessSync(folder, constants.W_OK);
  } catch {
    throw new CommandError(
      `${folder} can't be written by this user, so ${target} can't be replaced; run this as root. In a container, use a newer image instead.`,
    );
  }
}

/**
 * Copies the new executable to a file next to `target`, with the owner and mode of `target`. Before that, removes the files of
 * upgrades that were killed. If the copy fails, removes the incomplete file.
 * @throws CommandError with the reason.
 */
export async function stageExecutable(
  source: ExecutableSource,
  target: string,
  { signal, onProgress }: { signal: AbortSignal; onProgress: Progress },
): Promise<StagedExecutable> {
  const folder = dirname(target);
  removeAbandonedFiles(folder);
  const path = join(folder, `${PREFIX}${process.pid}-${randomUUID().slice(0, 8)}`);
  try {
    const sha256 = await copyExecutable(source, path, { signal, onProgress });
    copyPermissions(path, statSync(target));
    return { path, sha256 };
  } catch (error) {
    rmSync(path, { force: true });
    throw explainFileError(error, folder);
  }
}

/** Copies the executable to `path`, and returns its SHA-256. */
async function copyExecutable(
  source: ExecutableSource,
  path: string,
  { signal, onProgress }: { signal: AbortSignal; onProgress: Progress },
): Promise<string> {
  const idleController = new AbortController();
  const abortStalled = () => idleController.abort(new CommandError(`${source.label} stalled; try again.`));
  let idleTimer = setTimeout(abortStalled, IDLE_TIMEOUT_MS);
  const downloadTimeout = AbortSignal.timeout(DOWNLOAD_TIMEOUT_MS);
  const combinedSignal = AbortSignal.any([signal, idleController.signal, downloadTimeout]);
  const file = await open(path, "wx", 0o600);
  try {
    const { chunks, bytes: totalBytes } = await source.open(combinedSignal);
    const freeBytes = await findFreeBytes(dirname(path));
    if (totalBytes !== null && freeBytes !== null && totalBytes > freeBytes)
      throw new CommandError(
        `${dirname(path)} does not have enough space for ${source.label} (${totalBytes} bytes); free some space.`,
      );
    const hash = new Bun.CryptoHasher("sha256");
    let bytes = 0;
    for await (const chunk of chunks) {
      combinedSignal.throwIfAborted();
      clearTimeout(idleTimer);
      idleTimer = setTimeout(abortStalled, IDLE_TIMEOUT_MS);
      bytes += chunk.length;
      if (bytes > EXECUTABLE_BYTES_MAX)
        throw new CommandError(`${source.label} is larger than ${EXECUTABLE_BYTES_MAX} bytes; check the URL.`);
      hash.update(chunk);
      await file.writeFile(chunk);
      onProgress(bytes, totalBytes);
    }
    if (totalBytes !== null && bytes !== totalBytes)
      throw new CommandError(`${source.label} ended after ${bytes} of ${totalBytes} bytes; try again.`);
    await file.sync();
    return hash.digest("hex");
  } catch (error) {
    if (downloadTimeout.aborted)
      throw new CommandError(`${source.label} took longer than ${DOWNLOAD_TIMEOUT_MS / 60_000} minutes; try again.`);
    if (combinedSignal.aborted) throw combinedSignal.reason;
    if (error instanceof CommandError || diskErrorMessages.has(getErrorCode(error))) throw error;
    const reason = error instanceof Error ? error.message : String(error);
    throw new CommandError(
      `${source.label} could not be read completely (${reason}); try again. Nothing was replaced.`,
    );
  } finally {
    clearTimeout(idleTimer);
    await file.close();
  }
}

/** Applies the owner and mode of the current executable, without setuid and setgid bits. */
function copyPermissions(path: string, { uid, gid, mode }: Stats): void {
  if (process.getuid?.() === 0) chownSync(path, uid, gid);
  chmodSync(path, (mode & 0o777) | 0o100);
}

function removeAbandonedFiles(folder: string): void {
  for (const name of readdirSync(folder)) {
    const [, pid] = STAGED_NAME.exec(name) ?? [];
    if (pid !== undefined && !isAlive(Number(pid))) rmSync(join(folder, name), { force: true });
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

const getErrorCode = (error: unknown): string => (error instanceof Error && "code" in error ? String(error.code) : "");

const describeFullDisk = (folder: string) => `The disk of ${folder} is full; free some space. Nothing was replaced.`;
const describeMissingPermission = (folder: string) =>
  `${folder} can't be written by this user; run this as root. Nothing was replaced.`;
const diskErrorMessages = new Map([
  ["ENOSPC", describeFullDisk],
  ["EDQUOT", describeFullDisk],
  ["EACCES", describeMissingPermission],
  ["EPERM", describeMissingPermission],
  ["EROFS", describeMissingPermission],
]);

/** Returns a CommandError that explains a file system error; returns other errors unchanged. */
export function explainFileError(error: unknown, folder: string): unknown {
  const describe = diskErrorMessages.get(getErrorCode(error));
  return describe ? new CommandError(describe(folder)) : error;
}
