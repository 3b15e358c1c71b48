import { spawnSync } from "node:child_process";
import { readFileSync, realpathSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";

/** The unit of process start times on Linux (sysconf(_SC_CLK_TCK)). */
const TICKS_PER_SECOND = 100;
/** The tolerance when comparing start times. The server records its start time slightly late, and both times are rounded. */
const START_TOLERANCE_S = 5;
const PROBE_TIMEOUT_MS = 1_000;
const isLinux = process.platform === "linux";

/** Returns whether the process exists. A zombie doesn't count, because it has no resources. */
export function isAlive(pid: number): boolean {
  if (!isLinux) return readArguments(pid) !== null;
  try {
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, "utf8"));
  } catch {
    return false;
  }
}

/**
 * Returns whether the process is the server that wrote this `postmaster.pid`. PIDs are reused, so the process must be a Postgres
 * server that uses this folder. It must also have started at the recorded time or, in case the clock was changed later, accept
 * connections on the cluster's socket.
 */
export async function isClusterServer(
  clusterDir: string,
  { pid, startedAtS }: { pid: number; startedAtS: number },
): Promise<boolean> {
  if (!isAlive(pid) || !isPostgresUsing(clusterDir, pid)) return false;
  const startS = findStartTimeS(pid);
  if (startS !== null && Math.abs(startS - startedAtS) <= START_TOLERANCE_S) return true;
  return isAcceptingConnections(join(clusterDir, ".s.PGSQL.5432"));
}

/**
 * Returns whether the process is a Postgres server that uses this folder. Every user can read its command line. Its working directory is
 * also compared if it is readable.
 */
function isPostgresUsing(clusterDir: string, pid: number): boolean {
  if (!isLinux) return readArguments(pid)?.includes(`/postgres -D ${clusterDir} `) ?? false;
  try {
    const args = readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0");
    if (!args[0]?.endsWith("/postgres") || !args.includes(clusterDir)) return false;
  } catch {
    return false;
  }
  try {
    return realpathSync(`/proc/${pid}/cwd`) === realpathSync(clusterDir);
  } catch {
    return true;
  }
}

/** Reads a process's command line on systems without /proc (macOS). Returns null if the process doesn't exist or is a zombie. */
function readArguments(pid: number): string | null {
  if (!Number.isSafeInteger(pid) || pid <= 0) return null;
  const { status, stdout } = spawnSync("/bin/ps", ["-ww", "-o", "stat=,args=", "-p", String(pid)], {
    encoding: "utf8",
  });
  return status === 0 && !stdout.trimStart().startsWith("Z") ? stdout : null;
}

/** Returns when a process started, in seconds since 1970, or null if that is unknown. */
function findStartTimeS(pid: number): number | null {
  try {
    // The program's name is in parentheses and may contain any character. The start time is the 20th field after it.
    const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ").pop()?.split(" ") ?? [];
    const bootS = Number(/^btime (\d+)$/m.exec(readFileSync("/proc/stat", "utf8"))?.[1]);
    const startS = bootS + Number(fields[19]) / TICKS_PER_SECOND;
    return Number.isFinite(startS) ? startS : null;
  } catch {
    return null;
  }
}

/** Returns whether a process accepts connections on this socket. If the server is dead, connecting to its socket file fails. */
async function isAcceptingConnections(path: string): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>();
  const socket = connect(path);
  socket.setTimeout(PROBE_TIMEOUT_MS, () => resolve(false));
  socket.once("connect", () => resolve(true));
  socket.once("error", () => resolve(false));
  try {
    return await promise;
  } finally {
    socket.destroy();
  }
}
