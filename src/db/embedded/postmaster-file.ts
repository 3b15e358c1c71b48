import { existsSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Log } from "../../lib/log.ts";
import { EmbeddedPostgresError } from "./error.ts";

const POLL_MS = 20;
const FAST_SHUTDOWN_MS = 15_000;
const IMMEDIATE_SHUTDOWN_MS = 10_000;

/** What a running server writes into its folder: who it is, and whether it takes connections. */
export type PostmasterFile = { pid: number; isReady: boolean };

const pathOf = (clusterDir: string) => join(clusterDir, "postmaster.pid");

/** What `postmaster.pid` says; null when no server runs, nor was one killed. */
export function readPostmasterFile(clusterDir: string): PostmasterFile | null {
  try {
    const lines = readFileSync(pathOf(clusterDir), "utf8").split("\n");
    return { pid: Number(lines[0]), isReady: lines[7]?.trim() === "ready" };
  } catch {
    return null;
  }
}

/**
 * Ends a server that runs on this cluster though its Parley is gone; the caller holds the lock on `DATA_DIR`.
 * @throws EmbeddedPostgresError when it does not end.
 */
export async function endLeftover(clusterDir: string, log: Log): Promise<void> {
  const file = readPostmasterFile(clusterDir);
  if (!file || !existsSync(`/proc/${file.pid}`)) return;
  // A zombie that nobody has fetched yet is alive to the new server, which only asks whether the number is taken.
  if (!isAlive(file.pid) || !isServerOf(clusterDir, file.pid)) return disownFiles(clusterDir);
  log.warn({ process: file.pid }, "ending an embedded Postgres that a killed Parley left");
  process.kill(file.pid, "SIGINT");
  if (await hasEnded(file.pid, FAST_SHUTDOWN_MS)) return;
  process.kill(file.pid, "SIGQUIT");
  if (await hasEnded(file.pid, IMMEDIATE_SHUTDOWN_MS)) return;
  throw new EmbeddedPostgresError(
    `A Postgres of an earlier start (process ${file.pid}) still runs on ${clusterDir} and does not end; end it by hand.`,
  );
}

/**
 * The number in the files belongs to a stranger now (usual after a restart of a container), and the server would take
 * it for a server. Its own parent's number is one that it ignores. The file must stay: the server finds in it the
 * shared memory that processes of the old server may still hold, and waits for them.
 */
function disownFiles(clusterDir: string): void {
  const path = pathOf(clusterDir);
  const rest = readFileSync(path, "utf8").replace(/^\d+/, "");
  writeFileSync(path, `${process.pid}${rest}`);
  rmSync(join(clusterDir, ".s.PGSQL.5432.lock"), { force: true });
}

/** The command line is readable for everyone, unlike the working directory. */
function isServerOf(clusterDir: string, pid: number): boolean {
  try {
    const args = readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0");
    return Boolean(args[0]?.endsWith("/postgres")) && args.includes(clusterDir);
  } catch {
    return false;
  }
}

/** Counts a zombie as dead: it holds nothing. */
function isAlive(pid: number): boolean {
  try {
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, "utf8"));
  } catch {
    return false;
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
