import { accessSync, chmodSync, closeSync, constants, lstatSync, mkdirSync, openSync, realpathSync } from "node:fs";
import { join } from "node:path";
import { findDataDirProblem, openDataDir } from "../lib/data-dir.ts";
import type { Log } from "../lib/log.ts";
import { ensureCluster } from "./embedded/cluster.ts";
import { createUnreachableError, EmbeddedPostgresError } from "./embedded/error.ts";
import { createLauncher, findOwner, isReachable, type ProcessOwner } from "./embedded/launcher.ts";
import { lockDirectory } from "./embedded/lock.ts";
import { hasPayload, payloadVersion, removeOtherVersions, unpackPostgres } from "./embedded/payload.ts";
import { readPostmasterFile, stopLeftoverServer } from "./embedded/postmaster-file.ts";
import { APPLICATION_ROLE, prepareDatabase } from "./embedded/roles.ts";
import { runServer } from "./embedded/server.ts";
import { openServerLog } from "./embedded/server-log.ts";

export { DataDirectoryInUseError, EmbeddedPostgresError } from "./embedded/error.ts";

export type EmbeddedPostgresOptions = {
  dataDir: string;
  /** The maximum number of connections in all of Parley's pools. The server allows a few more. Default: 80. */
  poolSize?: number;
  log: Log;
};

export type EmbeddedPostgres = SocketAddress & {
  /** Shuts down the server (fast mode, at most 25 seconds) and releases `DATA_DIR`. Idempotent. */
  stop(): Promise<void>;
};

/** The socket directory, and the role to connect as. The role owns the database `parley`, but is not a superuser. */
type SocketAddress = { socketDirectory: string; user: string };

const DEFAULT_POOL_SIZE = 80;
/** The folder into which PostgreSQL is unpacked if Parley runs as root. The server runs as a different user, who must have access. */
export const SHARED_PROGRAMS_DIR = "/var/cache/parley";
/** The maximum length of a path in a Unix socket address. */
const SOCKET_PATH_BYTES_MAX = process.platform === "linux" ? 107 : 103;

/**
 * Starts the PostgreSQL bundled with the executable, with its data in `DATA_DIR/postgres` and its log in
 * `DATA_DIR/postgres.log`. The server is reachable only over a Unix socket, and contains the database `parley`. If it exits
 * unexpectedly, it is restarted.
 * @throws DataDirectoryInUseError if a running Parley uses this `DATA_DIR`.
 * @throws EmbeddedPostgresError if the server can't start.
 */
export async function startEmbeddedPostgres(options: EmbeddedPostgresOptions): Promise<EmbeddedPostgres> {
  if (!hasPayload)
    throw new EmbeddedPostgresError(
      "This build of Parley has no embedded PostgreSQL (builds for musl and Windows don't): set DATABASE_URL to the address of a PostgreSQL server.",
    );
  const undoSteps: (() => Promise<void> | void)[] = [];
  const undoAll = async () => {
    for (const step of undoSteps.splice(0).reverse()) await step();
  };
  try {
    const address = await runStartupSteps(options, undoSteps);
    let stopPromise: Promise<void> | undefined;
    const stop = () => {
      stopPromise ??= undoAll();
      return stopPromise;
    };
    return { ...address, stop };
  } catch (error) {
    await undoAll();
    throw explainError(error, options.dataDir);
  }
}

/** Runs the startup steps. For each step, adds a function to `undoSteps` that reverts it. */
async function runStartupSteps(
  options: EmbeddedPostgresOptions,
  undoSteps: (() => Promise<void> | void)[],
): Promise<SocketAddress> {
  const { poolSize = DEFAULT_POOL_SIZE, log } = options;
  const startedAtMs = performance.now();
  const dataDir = openDataDir(options.dataDir);
  const lock = lockDirectory(dataDir);
  undoSteps.push(lock.release);

  const clusterDir = join(dataDir, "postgres");
  const owner = findOwner(clusterDir);
  const installDir = await unpackPostgres(chooseProgramsDir(dataDir, owner));
  removeOtherVersions(dataDir);
  const launch = createLauncher(owner, clusterDir, log);
  const isNew = await ensureCluster(clusterDir, installDir, owner, launch);
  await stopLeftoverServer(clusterDir, log);

  const serverLog = openServerLog(join(dataDir, "postgres.log"));
  undoSteps.push(serverLog.close);
  const server = await runServer({ clusterDir, installDir, poolSize, launch, serverLog, log });
  undoSteps.push(server.stop);

  const { address, release } = openSocketDirectory(clusterDir);
  undoSteps.push(release);
  await prepareDatabase(address.socketDirectory, isNew);
  const durationMs = Math.round(performance.now() - startedAtMs);
  log.debug({ version: payloadVersion, directory: clusterDir, took_ms: durationMs }, "embedded Postgres started");
  return address;
}

function chooseProgramsDir(dataDir: string, owner: ProcessOwner): string {
  if (process.getuid?.() !== 0) return dataDir;
  const isUsable = (folder: string) => isReachable(join(folder, "programs"), owner);
  if (isSharedDirSafe() && isUsable(SHARED_PROGRAMS_DIR)) return SHARED_PROGRAMS_DIR;
  if (isUsable(dataDir)) return dataDir;
  throw createUnreachableError(dataDir, owner);
}

/** Returns whether the shared folder exists or can be created, and only root can write to it. Root must not run other users' programs. */
function isSharedDirSafe(): boolean {
  try {
    if (mkdirSync(SHARED_PROGRAMS_DIR, { recursive: true })) chmodSync(SHARED_PROGRAMS_DIR, 0o755);
    accessSync(SHARED_PROGRAMS_DIR, constants.W_OK);
    const { uid, mode } = lstatSync(SHARED_PROGRAMS_DIR);
    return uid === 0 && (mode & 0o022) === 0;
  } catch {
    return false;
  }
}

/**
 * Returns the server's socket directory, which is its data folder. Only the folder's owner can enter it. If the path is too long for a
 * socket address, returns a path through an open file descriptor, which works only on Linux.
 */
function openSocketDirectory(clusterDir: string): { address: SocketAddress; release(): void } {
  if (Buffer.byteLength(join(clusterDir, ".s.PGSQL.5432")) <= SOCKET_PATH_BYTES_MAX)
    return { address: { socketDirectory: clusterDir, user: APPLICATION_ROLE }, release: () => {} };
  if (process.platform !== "linux")
    throw new EmbeddedPostgresError(`The path of DATA_DIR is too long for a socket: ${clusterDir}; set a shorter one.`);
  const descriptor = openSync(clusterDir, "r");
  const socketDirectory = `/proc/self/fd/${descriptor}`;
  return { address: { socketDirectory, user: APPLICATION_ROLE }, release: () => closeSync(descriptor) };
}

/** Finds the server that a running Parley has started on `dataDir`. Returns null if there is none. */
export function findRunningPostgres(dataDir: string): EmbeddedPostgres | null {
  const clusterDir = join(realpathSync(dataDir), "postgres");
  if (!readPostmasterFile(clusterDir)?.isReady) return null;
  const { address, release } = openSocketDirectory(clusterDir);
  return { ...address, stop: async () => release() };
}

function explainError(error: unknown, dataDir: string): unknown {
  const code = error instanceof Error && "code" in error ? String(error.code) : "";
  const hasNoAccess = code === "EACCES" || code === "EPERM";
  const problem = hasNoAccess ? findDataDirProblem(dataDir) : null;
  if (problem !== null) return new EmbeddedPostgresError(problem, { cause: error });
  const message = errorMessages[code];
  return message
    ? new EmbeddedPostgresError(message.replace("DATA_DIR", `DATA_DIR ${dataDir}`), { cause: error })
    : error;
}

const noAccessMessage =
  "This user has no access to DATA_DIR; start Parley as the user that created it, or set a different one.";
const noFolderMessage = "DATA_DIR is a file, not a folder; set a different one.";
const errorMessages: Record<string, string> = {
  EACCES: noAccessMessage,
  EPERM: noAccessMessage,
  EEXIST: noFolderMessage,
  ENOTDIR: noFolderMessage,
  ENOSPC: "The disk of DATA_DIR is full; free some space and start again.",
  EROFS: "DATA_DIR is read-only; mount it writable, or set a different one.",
};
