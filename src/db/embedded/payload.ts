import { chmodSync, existsSync, mkdirSync, readdirSync, renameSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";
import manifest from "../../../dist/embedded/postgres.json";
import archive from "../../../dist/embedded/postgres.tar.zst" with { type: "file" };
import { EmbeddedPostgresError } from "./error.ts";

/** A temporary folder older than this was left by a process that was killed while unpacking. */
const STALE_AFTER_MS = 600_000;

const folderName = `postgres-${manifest.version}-${manifest.digest}`;

/** The version of the bundled PostgreSQL package, like `18.4.0-beta.17`. */
export const payloadVersion: string = manifest.version;

/** Whether this build bundles PostgreSQL: builds for musl and Windows don't (scripts/pack-postgres.ts). */
export const hasPayload = payloadVersion !== "";

/** The major version of the bundled PostgreSQL, as in a cluster's `PG_VERSION`. */
export const majorVersion = payloadVersion.split(".")[0] ?? "";

/**
 * Unpacks the bundled PostgreSQL into a folder of `parent`, unless a complete copy exists.
 * @returns the folder, which contains `bin`, `lib` and `share`.
 */
export async function unpackPostgres(parent: string): Promise<string> {
  const home = join(parent, folderName);
  if (isWhole(home)) return home;
  removeStale(parent);
  const temporary = `${home}.tmp-${process.pid}`;
  rmSync(temporary, { recursive: true, force: true });
  try {
    const tar = await Bun.zstdDecompress(await Bun.file(archive).bytes());
    await new Bun.Archive(tar).extract(temporary);
    openToAll(temporary);
  } catch (cause) {
    rmSync(temporary, { recursive: true, force: true });
    throw new EmbeddedPostgresError(`PostgreSQL could not be unpacked into ${parent}; is the disk full?`, { cause });
  }
  replace(home, temporary);
  if (!isWhole(home))
    throw new EmbeddedPostgresError(`PostgreSQL could not be unpacked into ${home}; is the disk full?`);
  return home;
}

/** Renames `temporary` to `home`, unless another Parley was faster and unpacked the same files. */
function replace(home: string, temporary: string): void {
  const old = `${home}.tmp-old-${process.pid}`;
  try {
    // The existing copy is incomplete (a power cut, a cleaner of /var/cache). It may be in use, so it is moved and not
    // emptied.
    if (existsSync(home) && !isWhole(home)) renameSync(home, old);
    if (!existsSync(home)) renameSync(temporary, home);
  } catch (error) {
    if (!isWhole(home)) throw error;
  } finally {
    for (const path of [old, temporary]) rmSync(path, { recursive: true, force: true });
  }
}

/** Compares number and size of all files: takes milliseconds and detects files that a power cut left incomplete. */
function isWhole(home: string): boolean {
  if (!existsSync(home)) return false;
  let files = 0;
  let bytes = 0;
  for (const entry of readdirSync(home, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue;
    files += 1;
    bytes += statSync(join(entry.parentPath, entry.name)).size;
  }
  return files === manifest.files && bytes === manifest.bytes;
}

/** Undoes a strict umask: the server may run as another user than the one that unpacked it. */
function openToAll(folder: string): void {
  chmodSync(folder, 0o755);
  for (const entry of readdirSync(folder, { recursive: true, withFileTypes: true })) {
    const isProgram = entry.isDirectory() || entry.parentPath.endsWith("/bin");
    chmodSync(join(entry.parentPath, entry.name), isProgram ? 0o755 : 0o644);
  }
}

function removeStale(parent: string): void {
  mkdirSync(parent, { recursive: true });
  for (const name of readdirSync(parent)) {
    const path = join(parent, name);
    if (!name.startsWith("postgres-") || !name.includes(".tmp-")) continue;
    if (Date.now() - statSync(path).mtimeMs > STALE_AFTER_MS) rmSync(path, { recursive: true, force: true });
  }
}

/** Removes PostgreSQL versions that an older Parley unpacked into its `DATA_DIR`. None of them may be in use. */
export function removeOtherVersions(dataDir: string): void {
  for (const name of readdirSync(dataDir))
    if (/^postgres-\d/.test(name) && name !== folderName) rmSync(join(dataDir, name), { recursive: true, force: true });
}
