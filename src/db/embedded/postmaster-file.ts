import { closeSync, openSync, readFileSync, rmSync, writeSync } from "node:fs";
import { join } from "node:path";
import type { Log } from "../../lib/log.ts";
import { EmbeddedPostgresError } from "./error.ts";
import { isAlive, isServerOf } from "./process.ts";

const POLL_MS = 20;
const FAST_SHUTDOWN_MS = 15_000;
const IMMEDIATE_SHUTDOWN_MS = 10_000;

/** The line of `postmaster.pid`, from 0, that says whether the server accepts connections. */
const STATUS_LINE = 7;

/** What a running server writes to its folder: its PID, its start time, and whether it accepts connections. */
export type PostmasterFile = { pid: number; startedAtS: number; isReady: boolean };

const pathOf = (clusterDir: string) => join(clusterDir, "postmaster.pid");

/** Parses `postmaster.pid`; null if it is missing. If the server was killed, the file still says that it is ready. */
export function readPostmasterFile(clusterDir: string): PostmasterFile | null {
  try {
    const lines = readFileSync(pathOf(clusterDir), "utf8").split("\n");
    return { pid: Number(lines[0]), startedAtS: Number(lines[2]), isReady: lines[STATUS_LINE]?.trim() === "ready" };
  } catch {
    return null;
  }
}

/**
 * Stops a server that still runs on this cluster although its Parley no longer does. The caller must hold the lock on
 * `DATA_DIR`.
 * @throws EmbeddedPostgresError if the server doesn't stop.
 */
export async function stopLeftoverServer(clusterDir: string, log: Log): Promise<void> {
  const file = readPostmasterFile(clusterDir);
  if (!file || !(await isServerOf(clusterDir, file))) return;
  log.warn({ process: file.pid }, "stopping the embedded Postgres left by a killed Parley");
  process.kill(file.pid, "SIGINT");
  if (await hasEnded(file.pid, FAST_SHUTDOWN_MS)) return;
  process.kill(file.pid, "SIGQUIT");
  if (await hasEnded(file.pid, IMMEDIATE_SHUTDOWN_MS)) return;
  throw new EmbeddedPostgresError(
    `A Postgres from an earlier start (process ${file.pid}) is still running on ${clusterDir} and doesn't stop; stop it manually.`,
  );
}

/**
 * Edits the `postmaster.pid` of a dead server so that it doesn't disturb the next start. PIDs are reused, in containers almost
 * immediately.
 * - A new server refuses to start if a process with the recorded PID exists, unless it is its parent. So the parent's PID is
 * written.
 * - The file still says "ready", and the new server may get the recorded PID. So the status is cleared.
 * Everything else must stay. It identifies shared memory that processes of the dead server may still use; while they do, the
 * new server must not start.
 */
export function disownPostmasterFile(clusterDir: string): void {
  rmSync(join(clusterDir, ".s.PGSQL.5432.lock"), { force: true });
  const path = pathOf(clusterDir);
  const file = readPostmasterFile(clusterDir);
  if (!file) return;
  // The server was killed while writing the file, so it used nothing yet. The file is removed, because the next server would
  // refuse an empty one.
  if (!(file.pid > 0)) {
    rmSync(path);
    return;
  }
  const text = readFileSync(path, "utf8");
  const lines = text.split("\n");
  lines[0] = String(process.pid);
  if (lines.length > STATUS_LINE) lines[STATUS_LINE] = "";
  // The file is overwritten in place with the same length, so a kill can't leave it empty, and a full disk doesn't matter.
  const descriptor = openSync(path, "r+");
  try {
    writeSync(descriptor, lines.join("\n").padEnd(text.length, "\n"));
  } finally {
    closeSync(descriptor);
  }
}

async function hasEnded(pid: number, timeoutMs: number): Promise<boolean> {
  const deadline = performance.now() + timeoutMs;
  while (isAlive(pid)) {
    if (performance.now() > deadline) return false;
    await Bun.sleep(POLL_MS);
  }
  return true;
}
