import { closeSync, openSync, readFileSync, rmSync, writeSync } from "node:fs";
import { join } from "node:path";
import type { Log } from "../../lib/log.ts";
import { EmbeddedPostgresError } from "./error.ts";
import { isAlive, isClusterServer } from "./process.ts";

const POLL_MS = 20;
const FAST_SHUTDOWN_MS = 15_000;
const IMMEDIATE_SHUTDOWN_MS = 10_000;

/** The index of the line in `postmaster.pid` that states whether the server accepts connections. */
const STATUS_LINE = 7;

/** The contents of `postmaster.pid`, which a running server writes to its folder. */
export type PostmasterFile = { pid: number; startedAtS: number; isReady: boolean };

const getPostmasterPath = (clusterDir: string) => join(clusterDir, "postmaster.pid");

/** Reads `postmaster.pid`. Returns null if it is missing. After a server was killed, its file may still state that it is ready. */
export function readPostmasterFile(clusterDir: string): PostmasterFile | null {
  try {
    const lines = readFileSync(getPostmasterPath(clusterDir), "utf8").split("\n");
    return { pid: Number(lines[0]), startedAtS: Number(lines[2]), isReady: lines[STATUS_LINE]?.trim() === "ready" };
  } catch {
    return null;
  }
}

/**
 * Stops a server that is still running on this cluster after its Parley has exited. The caller must hold the lock on `DATA_DIR`.
 * @throws EmbeddedPostgresError if the server doesn't stop.
 */
export async function stopLeftoverServer(clusterDir: string, log: Log): Promise<void> {
  const file = readPostmasterFile(clusterDir);
  if (!file || !(await isClusterServer(clusterDir, file))) return;
  log.warn({ process: file.pid }, "stopping the embedded Postgres left by a killed Parley");
  process.kill(file.pid, "SIGINT");
  if (await waitForExit(file.pid, FAST_SHUTDOWN_MS)) return;
  process.kill(file.pid, "SIGQUIT");
  if (await waitForExit(file.pid, IMMEDIATE_SHUTDOWN_MS)) return;
  throw new EmbeddedPostgresError(
    `A Postgres from an earlier start (process ${file.pid}) is still running on ${clusterDir} and doesn't stop; stop it manually.`,
  );
}

/**
 * Edits the `postmaster.pid` of a dead server so that the next server can start. PIDs are reused, in containers almost immediately.
 * - A new server refuses to start if a process with the recorded PID exists, unless that process is its parent. Therefore, the PID is
 * replaced by this process's PID, because this process starts the new server.
 * - The file still states "ready", and the new server may receive the recorded PID. Therefore, the status is cleared.
 *
 * Nothing else must change. The rest of the file identifies shared memory, and a new server must not start while processes of the dead
 * server use that memory.
 */
export function disownPostmasterFile(clusterDir: string): void {
  rmSync(join(clusterDir, ".s.PGSQL.5432.lock"), { force: true });
  const path = getPostmasterPath(clusterDir);
  const file = readPostmasterFile(clusterDir);
  if (!file) return;
  // The server was killed while writing the file, so it had no shared memory yet. The next server would reject an empty file.
  if (!(file.pid > 0)) {
    rmSync(path);
    return;
  }
  const text = readFileSync(path, "utf8");
  const lines = text.split("\n");
  lines[0] = String(process.pid);
  if (lines.length > STATUS_LINE) lines[STATUS_LINE] = "";
  // Overwrites the file in place with the same length, so that neither a kill nor a full disk can leave it empty.
  const descriptor = openSync(path, "r+");
  try {
    writeSync(descriptor, lines.join("\n").padEnd(text.length, "\n"));
  } finally {
    closeSync(descriptor);
  }
}

async function waitForExit(pid: number, timeoutMs: number): Promise<boolean> {
  const deadlineMs = performance.now() + timeoutMs;
  while (isAlive(pid)) {
    if (performance.now() > deadlineMs) return false;
    await Bun.sleep(POLL_MS);
  }
  return true;
}
