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

/** Written by a running server into its folder: its PID, its start time, and whether it accepts connections. */
export type PostmasterFile = { pid: number; startedAtS: number; isReady: boolean };

const pathOf = (clusterDir: string) => join(clusterDir, "postmaster.pid");

/** Parses `postmaster.pid`; null if it is missing. After a kill it still lists the dead server as ready. */
export function readPostmasterFile(clusterDir: string): PostmasterFile | null {
  try {
    const lines = readFileSync(pathOf(clusterDir), "utf8").split("\n");
    return { pid: Number(lines[0]), startedAtS: Number(lines[2]), isReady: lines[STATUS_LINE]?.trim() === "ready" };
  } catch {
    return null;
  }
}

/**
 * Ends a server that still runs on this cluster although its Parley is gone. The caller holds the lock on `DATA_DIR`.
 * @throws EmbeddedPostgresError if it doesn't end.
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
 * Makes `postmaster.pid` of a dead server harmless before the next start. PIDs are reused, immediately in a container:
 * - The new server refuses to start if the recorded PID exists, but ignores its parent's PID: so that one is written.
 * - The file still says "ready", and the new server may get the recorded PID: so the status is cleared.
 * The rest must stay. It identifies shared memory that processes of the dead server may still hold; the server does not
 * start while they do.
 */
export function disownPostmasterFile(clusterDir: string): void {
  rmSync(join(clusterDir, ".s.PGSQL.5432.lock"), { force: true });
  const path = pathOf(clusterDir);
  const file = readPostmasterFile(clusterDir);
  if (!file) return;
  // A server killed while writing the file held nothing yet, and the next one refuses an empty file.
  if (!(file.pid > 0)) {
    rmSync(path);
    return;
  }
  const text = readFileSync(path, "utf8");
  const lines = text.split("\n");
  lines[0] = String(process.pid);
  if (lines.length > STATUS_LINE) lines[STATUS_LINE] = "";
  // One write in place, never shorter: a kill leaves no empty file, and a full disk does not matter.
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
