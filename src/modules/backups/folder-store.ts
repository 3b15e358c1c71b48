import { mkdirSync } from "node:fs";
import { readdir, rm, stat } from "node:fs/promises";
import { join, resolve } from "node:path";
import { ArchiveError, createBackupFile, openBackupFile } from "../../db/archive.ts";
import { formatBytes } from "../../lib/format-bytes.ts";
import { findFreeBytes } from "../../lib/free-bytes.ts";
import type { BackupStore } from "./store.ts";

/** The minimum free space during a backup, because the database is often on the same disk. */
const FREE_BYTES_MIN = 128 * 1024 * 1024;
/** The assumed growth since the last backup, as a factor. */
const GROWTH_FACTOR = 1.2;
/** The number of bytes after which free space is checked again. */
const CHECK_INTERVAL_BYTES = 32 * 1024 * 1024;
/** The time after which a partial file that isn't written to is abandoned. */
const ABANDONED_AFTER_MS = 15 * 60_000;
const partialNamePattern = /^\.parley-\d{8}T\d{6}Z-([0-9a-f]{8})\.backup\.\d+-[0-9a-f]{8}\.partial$/;

type Options = { folder: string; findFreeBytesIn?: typeof findFreeBytes; checkIntervalBytes?: number };

/** Stores backups as files in a folder, readable only by their owner. */
export function createFolderStore({
  folder,
  findFreeBytesIn = findFreeBytes,
  checkIntervalBytes = CHECK_INTERVAL_BYTES,
}: Options): BackupStore {
  const location = resolve(folder);

  async function requireFreeSpace(neededBytes: number): Promise<void> {
    const freeBytes = await findFreeBytesIn(location);
    if (freeBytes === null || freeBytes >= neededBytes) return;
    throw new ArchiveError(
      "file",
      `The disk of ${location} has ${formatBytes(freeBytes)} free, but the backup needs ${formatBytes(neededBytes)} (including a reserve of ${formatBytes(FREE_BYTES_MIN)}). Free some space, keep fewer backups (BACKUP_KEEP), or set BACKUP_DIR to another disk.`,
    );
  }

  async function removeAbandonedFiles(): Promise<void> {
    for (const name of await readdir(location)) {
      if (!partialNamePattern.test(name)) continue;
      const path = join(location, name);
      const stats = await stat(path).catch(() => null);
      if (stats?.isFile() && Date.now() - stats.mtimeMs > ABANDONED_AFTER_MS) await rm(path, { force: true });
    }
  }

  return {
    location,

    async prepare(expectedBytes) {
      // The folder may have been removed, or its disk unmounted.
      try {
        mkdirSync(location, { recursive: true, mode: 0o700 });
        await removeAbandonedFiles();
      } catch (error) {
        throw new ArchiveError(
          "file",
          `BACKUP_DIR ${location} can't be used (${formatErrorCode(error)}). Make it a folder that this user can write to.`,
        );
      }
      await requireFreeSpace(Math.ceil((expectedBytes ?? 0) * GROWTH_FACTOR) + FREE_BYTES_MIN);
    },

    async create(name) {
      const file = await createBackupFile(join(location, name), false);
      let bytesUntilCheck = checkIntervalBytes;
      return {
        ...file,
        async write(bytes) {
          bytesUntilCheck -= bytes.length;
          if (bytesUntilCheck <= 0) {
            bytesUntilCheck = checkIntervalBytes;
            await requireFreeSpace(FREE_BYTES_MIN);
          }
          await file.write(bytes);
        },
      };
    },

    async read(name, bytes) {
      const path = join(location, name);
      const sizeBytes = (await stat(path).catch(() => null))?.size ?? 0;
      if (sizeBytes === bytes) return (await openBackupFile(path)).source;
      throw new ArchiveError(
        "damaged",
        `${name} has ${sizeBytes} bytes, but ${bytes} were written. Check the disk of ${location}.`,
      );
    },

    async list() {
      const entries = await readdir(location, { withFileTypes: true });
      return entries.filter((entry) => entry.isFile()).map(({ name }) => name);
    },

    remove: (name) => rm(join(location, name), { force: true }),
  };
}

const formatErrorCode = (error: unknown): string =>
  error instanceof Error && "code" in error ? String(error.code) : String(error);
