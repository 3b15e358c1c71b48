import { existsSync, rmSync, writeFileSync } from "node:fs";
import { statfs } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { type Config, findBackupDir } from "../../config.ts";
import { findDataDirProblem } from "../../lib/data-dir.ts";
import { findFolderProblem } from "../../lib/folder-check.ts";
import { formatBytes } from "../../lib/format-bytes.ts";
import { createId } from "../../lib/id.ts";
import type { DoctorCheck } from "./check.ts";
import { addOkIfNoFindings, type Finding, problem, skipped, warning } from "./finding.ts";

const FREE_PROBLEM_BYTES = 100e6;
const FREE_WARNING_BYTES = 1e9;
const INODES_PROBLEM = 1_000;
const INODES_WARNING = 10_000;
/** Large enough to detect a full disk: file systems may still have a few kilobytes for small files. */
const PROBE_BYTES = 64 * 1024;

/** Types of network file systems (statfs(2), linux/magic.h). */
const networkTypes = new Map([
  [0x6969, "NFS"],
  [0xff534d42, "CIFS"],
  [0xfe534d42, "SMB"],
  [0x517b, "SMB"],
  [0x01021997, "9p"],
  [0x00c36400, "Ceph"],
  [0x5346414f, "AFS"],
]);

type Folder = { setting: string; path: string; isForDatabase: boolean };

export const diskCheck: DoctorCheck = {
  name: "disk",
  async run({ config }) {
    const folders = listFolders(config);
    if (folders.length === 0) return [skipped("Parley stores nothing on this machine with these settings.")];
    const findings = (await Promise.all(folders.map(checkFolder))).flat();
    const freeSpaces = await Promise.all(
      folders.map(async ({ setting, path }) => `${setting} ${await describeFreeSpace(path)}`),
    );
    if (findings.length === folders.length && findings.every(({ status }) => status === "skipped")) return findings;
    return addOkIfNoFindings(findings, `Free space: ${freeSpaces.join(", ")}.`);
  },
};

function listFolders(config: Config): Folder[] {
  const isEmbedded = config.DATABASE_URL === undefined;
  const folders: Folder[] = [];
  if (isEmbedded || config.JWT_SECRET === undefined)
    folders.push({ setting: "DATA_DIR", path: resolve(config.DATA_DIR), isForDatabase: isEmbedded });
  if (config.BACKUP_SCHEDULE !== undefined && config.BACKUP_S3_BUCKET === undefined)
    folders.push({ setting: "BACKUP_DIR", path: resolve(findBackupDir(config)), isForDatabase: false });
  return folders;
}

async function describeFreeSpace(path: string): Promise<string> {
  const status = await statfs(findExistingFolder(path)).catch(() => null);
  return status ? formatBytes(status.bavail * status.bsize) : "unknown";
}

/** Returns the folder, or its closest existing parent. */
function findExistingFolder(path: string): string {
  let folder = path;
  while (!existsSync(folder) && dirname(folder) !== folder) folder = dirname(folder);
  return folder;
}

async function checkFolder({ setting, path, isForDatabase }: Folder): Promise<Finding[]> {
  const accessProblem = findDataDirProblem(path);
  // The check `embedded postgres` reports this as a problem.
  if (accessProblem !== null && isForDatabase) return [skipped(`${setting} ${path} can't be used by this user.`)];
  if (accessProblem !== null) return [problem(accessProblem.replaceAll("DATA_DIR", setting))];
  const folderProblem = findFolderProblem(path);
  if (folderProblem !== null) return [problem(`${setting}: ${folderProblem}`)];
  const existingFolder = findExistingFolder(path);
  const status = await statfs(existingFolder).catch(() => null);
  if (status === null) return [skipped(`The free space of ${setting} ${existingFolder} can't be read.`)];
  const findings = checkSpace(`${setting} ${path}`, {
    freeBytes: status.bavail * status.bsize,
    freeInodes: status.files > 0 ? status.ffree : null,
  });
  const networkType = networkTypes.get(status.type);
  if (isForDatabase && networkType !== undefined)
    findings.push(
      warning(
        `${setting} ${path} is on a network file system (${networkType}), where Postgres may lose data or hang when the network fails; use a local disk, or set DATABASE_URL.`,
      ),
    );
  // Writing a file to a full disk would only repeat the finding, and writing to a folder that doesn't exist would fail.
  if (findings.some((finding) => finding.status === "problem") || existingFolder !== path) return findings;
  const errorCode = findWriteError(path);
  return errorCode === null
    ? findings
    : [
        ...findings,
        problem(`A file can't be written to ${setting} ${path} (${errorCode}); free some space, or repair the disk.`),
      ];
}

/** Reports a lack of disk space or inodes. @param facts.freeInodes null if the file system has no fixed number of inodes. */
export function checkSpace(folder: string, facts: { freeBytes: number; freeInodes: number | null }): Finding[] {
  const { freeBytes, freeInodes } = facts;
  const findings: Finding[] = [];
  if (freeBytes < FREE_WARNING_BYTES) {
    const message = `The disk of ${folder} has ${formatBytes(freeBytes)} left; free some space, or use a larger disk.`;
    findings.push((freeBytes < FREE_PROBLEM_BYTES ? problem : warning)(message));
  }
  if (freeInodes !== null && freeInodes < INODES_WARNING) {
    const message = `The disk of ${folder} can store only ${freeInodes} more files (inodes); delete files that are not needed.`;
    findings.push((freeInodes < INODES_PROBLEM ? problem : warning)(message));
  }
  return findings;
}

/** Writes a file and removes it. Returns the error code if it can't be written, otherwise null. */
function findWriteError(folder: string): string | null {
  const path = join(folder, `.parley-doctor-${createId()}`);
  try {
    writeFileSync(path, new Uint8Array(PROBE_BYTES), { mode: 0o600, flush: true });
    return null;
  } catch (error) {
    return error instanceof Error && "code" in error ? String(error.code) : String(error);
  } finally {
    rmSync(path, { force: true });
  }
}
