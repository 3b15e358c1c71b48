import { accessSync, chmodSync, closeSync, constants, lstatSync, mkdirSync, openSync, realpathSync } from "node:fs";
import { join } from "node:path";
import { findDataDirProblem, openDataDir } from "../lib/data-dir.ts";
import type { Log } from "../lib/log.ts";
import { ensureCluster } from "./embedded/cluster.ts";
import { EmbeddedPostgresError, unreachable } from "./embedded/error.ts";
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
  /** The most connections that Parley's pools open together (80); the server allows a few more. */
  poolSize?: number;
  log: Log;
};

export type EmbeddedPostgres = SocketAddress & {
  /** Shuts the server down (fast mode, after 25 seconds at the latest) and releases `DATA_DIR`. Idempotent. */
  stop(): Promise<void>;
};

/** The address of the server. The role owns the database `parley` and is not a superuser. */
type SocketAddress = { socketDirectory: string; user: string };

const POOL_SIZE = 80;
/** Where root unpacks PostgreSQL: the server runs as another user, so its programs must be readable by everyone. */
export const SHARED_PROGRAMS_DIR = "/var/cache/parley";
/** The longest path that fits in a Unix socket address. */
const SOCKET_PATH_BYTES_MAX = process.platform === "linux" ? 107 : 103;

/**
 * Starts the PostgreSQL bundled with the executable, with its data in `DATA_DIR/postgres` and its log in
 * `DATA_DIR/postgres.log`, reachable only over a Unix socket. The database `parley` exists when it returns. If the server
 * ends unexpectedly, it is restarted.
 * @throws DataDirectoryInUseError when a running Parley uses this `DATA_DIR`.
 * @throws EmbeddedPostgresError when it cannot start; the message says why.
 */
export async function startEmbeddedPostgres(options: EmbeddedPostgresOptions): Promise<EmbeddedPostgres> {
  if (!hasPayload)
    throw new EmbeddedPostgresError(
      "This build of Parley has no embedded PostgreSQL (builds for musl and Windows don't): set DATABASE_URL to the address of a PostgreSQL server.",
    );
  const undo: (() => Promise<void> | void)[] = [];
  const undoAll = async () => {
    for (const step of undo.splice(0).reverse()) await step();
  };
  try {
    const address = await start(options, undo);
    let stopping: Promise<void> | undefined;
    const stop = () => {
      stopping ??= undoAll();
      return stopping;
    };
    return { ...address, stop };
  } catch (error) {
    await undoAll();
    throw explain(error, options.dataDir);
  }
}

/** Runs the steps of a start, and pushes to `undo` what reverts each of them. */
async function start(options: EmbeddedPostgresOptions, undo: (() => Promise<void> | void)[]): Promise<SocketAddress> {
  const { poolSize = POOL_SIZE, log } = options;
  const startedAtMs = performance.now();
  const dataDir = openDataDir(options.dataDir);
  const lock = lockDirectory(dataDir);
  undo.push(lock.release);

  const clusterDir = join(dataDir, "postgres");
  const owner = findOwner(clusterDir);
  const home = await unpackPostgres(chooseProgramsDir(dataDir, owner));
  removeOtherVersions(dataDir);
  const launch = createLauncher(owner, clusterDir, log);
  const isNew = await ensureCluster(clusterDir, home, owner, launch);
  await stopLeftoverServer(clusterDir, log);

  const serverLog = openServerLog(join(dataDir, "postgres.log"));
  undo.push(serverLog.close);
  const server = await runServer({ clusterDir, home, poolSize, launch, serverLog, log });
  undo.push(server.stop);

  const { address, release } = openSocketDirectory(clusterDir);
  undo.push(release);
  await prepareDatabase(address.socketDirectory, isNew);
  const tookMs = Math.round(performance.now() - startedAtMs);
  log.debug({ version: payloadVersion, directory: clusterDir, took_ms: tookMs }, "embedded Postgres started");
  return address;
}

function chooseProgramsDir(dataDir: string, owner: ProcessOwner): string {
  if (process.getuid?.() !== 0) return dataDir;
  const isUsable = (folder: string) => isReachable(join(folder, "programs"), owner);
  if (isSharedDirSafe() && isUsable(SHARED_PROGRAMS_DIR)) return SHARED_PROGRAMS_DIR;
  if (isUsable(dataDir)) return dataDir;
  throw unreachable(dataDir, owner);
}

/** Root only runs programs that only root could have written. The system may be read-only. */
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
 * The server's socket is in its data folder, which only its owner may enter. A path too long for a socket address is reached
 * through an open descriptor of the folder, on systems that provide such paths (Linux).
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

/** The server that a running Parley has started on `dataDir`, for short commands; null when there is none. */
export function findRunningPostgres(dataDir: string): EmbeddedPostgres | null {
  const clusterDir = join(realpathSync(dataDir), "postgres");
  if (!readPostmasterFile(clusterDir)?.isReady) return null;
  const { address, release } = openSocketDirectory(clusterDir);
  return { ...address, stop: async () => release() };
}

function explain(error: unknown, dataDir: string): unknown {
  const code = error instanceof Error && "code" in error ? String(error.code) : "";
  const hasNoAccess = code === "EACCES" || code === "EPERM";
  const problem = hasNoAccess ? findDataDirProblem(dataDir) : null;
  if (problem !== null) return new EmbeddedPostgresError(problem, { cause: error });
  const sentence = sentences[code];
  return sentence
    ? new EmbeddedPostgresError(sentence.replace("DATA_DIR", `DATA_DIR ${dataDir}`), { cause: error })
    : error;
}

const noAccess = "This user has no access to DATA_DIR; start Parley as the user that created it, or set another one.";
const noFolder = "DATA_DIR is a file, not a folder; set another one.";
const sentences: Record<string, string> = {
  EACCES: noAccess,
  EPERM: noAccess,
  EEXIST: noFolder,
  ENOTDIR: noFolder,
  ENOSPC: "The disk of DATA_DIR is full; free some space and start again.",
  EROFS: "DATA_DIR is read-only; mount it writable, or set another one.",
};
