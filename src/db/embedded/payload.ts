import { chmodSync, existsSync, mkdirSync, readdirSync, renameSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";
import manifest from "../../../dist/embedded/postgres.json";
import archive from "../../../dist/embedded/postgres.tar.zst" with { type: "file" };
import { EmbeddedPostgresError } from "./error.ts";

/** The age above which a temporary folder is removed. It was left by a process that was killed while unpacking. */
const STALE_AFTER_MS = 600_000;

const folderName = `postgres-${manifest.version}-${manifest.digest}`;

/** The version of the bundled PostgreSQL package, such as `18.4.0-beta.17`. */
export const payloadVersion: string = manifest.version;

/** Whether this build includes PostgreSQL. Builds for musl and Windows don't include it (scripts/pack-postgres.ts). */
export const hasPayload = payloadVersion !== "";

/** The major version of the bundled PostgreSQL, as in a cluster's `PG_VERSION`. */
export const majorVersion = payloadVersion.split(".")[0] ?? "";

/**
 * Unpacks the bundled PostgreSQL into a subfolder of `parent`, unless a complete copy exists there.
 * @returns the folder, which contains `bin`, `lib` and `share`.
 */
export async function unpackPostgres(parent: string): Promise<string> {
  const installDir = join(parent, folderName);
  if (isComplete(installDir)) return installDir;
  removeStaleFolders(parent);
  const temporaryDir = `${installDir}.tmp-${process.pid}`;
  rmSync(temporaryDir, { recursive: true, force: true });
  try {
    const tar = await Bun.zstdDecompress(await Bun.file(archive).bytes());
    await new Bun.Archive(tar).extract(temporaryDir);
    makeReadableForAll(temporaryDir);
  } catch (cause) {
    rmSync(temporaryDir, { recursive: true, force: true });
    throw new EmbeddedPostgresError(`PostgreSQL could not be unpacked into ${parent}; is the disk full?`, { cause });
  }
  moveIntoPlace(installDir, temporaryDir);
  if (!isComplete(installDir))
    throw new EmbeddedPostgresError(`PostgreSQL could not be unpacked into ${installDir}; is the disk full?`);
  return installDir;
}

/** Renames `temporaryDir` to `installDir`, unless another process has already unpacked the same files there. */
function moveIntoPlace(installDir: string, temporaryDir: string): void {
  const oldPath = `${installDir}.tmp-old-${process.pid}`;
  try {
    // An existing copy may be incomplete after a power failure or a cleanup of /var/cache. It is moved before it is removed,
    // because it may be in use.
    if (existsSync(installDir) && !isComplete(installDir)) renameSync(installDir, oldPath);
    if (!existsSync(installDir)) renameSync(temporaryDir, installDir);
  } catch (error) {
    if (!isComplete(installDir)) throw error;
  } finally {
    for (const path of [oldPath, temporaryDir]) rmSync(path, { recursive: true, force: true });
  }
}

/** Checks the number and total size of the files. This takes milliseconds, and detects files truncated by a power failure. */
function isComplete(installDir: string): boolean {
  if (!existsSync(installDir)) return false;
  let files = 0;
  let bytes = 0;
  for (const entry of readdirSync(installDir, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue;
    files += 1;
    bytes += statSync(join(entry.parentPath, entry.name)).size;
  }
  return files === manifest.files && bytes === manifest.bytes;
}

/** Makes the files readable for all users, regardless of the umask, because the server may run as a different user. */
function makeReadableForAll(folder: string): void {
  chmodSync(folder, 0o755);
  for (const entry of readdirSync(folder, { recursive: true, withFileTypes: true })) {
    const isProgram = entry.isDirectory() || entry.parentPath.endsWith("/bin");
    chmodSync(join(entry.parentPath, entry.name), isProgram ? 0o755 : 0o644);
  }
}

function removeStaleFolders(parent: string): void {
  mkdirSync(parent, { recursive: true });
  for (const name of readdirSync(parent)) {
    const path = join(parent, name);
    if (!name.startsWith("postgres-") || !name.includes(".tmp-")) continue;
    if (Date.now() - statSync(path).mtimeMs > STALE_AFTER_MS) rmSync(path, { recursive: true, force: true });
  }
}

/** Removes PostgreSQL versions that other versions of Parley unpacked into `DATA_DIR`. They must not be in use. */
export function removeOtherVersions(dataDir: string): void {
  for (const name of readdirSync(dataDir))
    if (/^postgres-\d/.test(name) && name !== folderName) rmSync(join(dataDir, name), { recursive: true, force: true });
}
