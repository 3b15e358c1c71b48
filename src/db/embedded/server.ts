import type { ChildProcess } from "node:child_process";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { Log } from "../../lib/log.ts";
import { EmbeddedPostgresError } from "./error.ts";
import type { Launch } from "./launcher.ts";
import { disownPostmasterFile, readPostmasterFile } from "./postmaster-file.ts";
import type { ServerLog } from "./server-log.ts";
import { serverSettings } from "./settings.ts";

const READY_POLL_MS = 10;
/** Crash recovery replays at most `max_wal_size`. If that takes longer than this, something is wrong with the machine. */
const START_TIMEOUT_MS = 300_000;
const STILL_STARTING_LOG_INTERVAL_MS = 10_000;
const RESTART_DELAY_MIN_MS = 100;
const RESTART_DELAY_MAX_MS = 5_000;
/** After running this long, a server is restarted with the minimum delay again. */
const STABLE_AFTER_MS = 10_000;
const FAST_SHUTDOWN_MS = 15_000;
const IMMEDIATE_SHUTDOWN_MS = 5_000;

export type ServerOptions = {
  clusterDir: string;
  home: string;
  poolSize: number;
  launch: Launch;
  serverLog: ServerLog;
  log: Log;
};

export type Server = { stop(): Promise<void> };

type Running = { process: ChildProcess; startedAtMs: number; logOffset: number; ended: Promise<string> };

/**
 * Starts the server, waits until it accepts connections, and restarts it whenever it exits unexpectedly.
 * @throws EmbeddedPostgresError if the server doesn't start.
 */
export async function runServer(options: ServerOptions): Promise<Server> {
  const { log } = options;
  const stopping = new AbortController();
  let running = launchServer(options);
  const problem = await waitUntilReady(running, options);
  if (problem !== null) {
    await endServer(running);
    throw new EmbeddedPostgresError(`The embedded Postgres failed to start: ${problem}`);
  }
  const supervision = supervise();

  async function supervise(): Promise<void> {
    let delayMs = RESTART_DELAY_MIN_MS;
    for (;;) {
      const ending = await running.ended;
      if (stopping.signal.aborted) return;
      const reason = options.serverLog.findReason(running.logOffset);
      log.error({ ending, reason, restart_in_ms: delayMs }, "the embedded Postgres ended unexpectedly; restarting it");
      await sleep(delayMs, undefined, { signal: stopping.signal }).catch(() => {});
      if (stopping.signal.aborted) return;
      const isStable = performance.now() - running.startedAtMs > STABLE_AFTER_MS;
      delayMs = isStable ? RESTART_DELAY_MIN_MS : Math.min(delayMs * 2, RESTART_DELAY_MAX_MS);
      running = launchServer(options);
      if ((await waitUntilReady(running, options)) === null) log.info("the embedded Postgres is running again");
    }
  }

  return {
    async stop() {
      stopping.abort();
      await endServer(running);
      await supervision;
    },
  };
}

function launchServer({ clusterDir, home, poolSize, launch, serverLog }: ServerOptions): Running {
  const settings = Object.entries(serverSettings(poolSize)).flatMap(([name, value]) => ["-c", `${name}=${value}`]);
  const logOffset = serverLog.sizeBytes();
  disownPostmasterFile(clusterDir);
  const child = launch(join(home, "bin/postgres"), ["-D", clusterDir, ...settings], serverLog.descriptor);
  const ended = new Promise<string>((resolve) => {
    child.once("error", (error) => resolve(error.message));
    child.once("exit", (code, signal) => resolve(signal ? `signal ${signal}` : `exit code ${code}`));
  });
  return { process: child, startedAtMs: performance.now(), logOffset, ended };
}

/** Waits until the server accepts connections. @returns null if it does, otherwise the reason. */
async function waitUntilReady(running: Running, { clusterDir, serverLog, log }: ServerOptions): Promise<string | null> {
  let ending: string | null = null;
  void running.ended.then((text) => {
    ending = text;
  });
  let nextNoticeMs = STILL_STARTING_LOG_INTERVAL_MS;
  for (;;) {
    if (ending !== null) return serverLog.findReason(running.logOffset) || ending;
    const file = readPostmasterFile(clusterDir);
    if (file?.pid === running.process.pid && file?.isReady) return null;
    const waitedMs = performance.now() - running.startedAtMs;
    if (waitedMs > START_TIMEOUT_MS) return `it accepts no connections after ${START_TIMEOUT_MS / 1000} seconds`;
    if (waitedMs > nextNoticeMs) {
      log.info({ waited_ms: Math.round(waitedMs) }, "the embedded Postgres is still starting; it may be recovering");
      nextNoticeMs += STILL_STARTING_LOG_INTERVAL_MS;
    }
    await Bun.sleep(READY_POLL_MS);
  }
}

/** Shuts down the server in fast mode. If that takes too long, uses immediate mode, and the next start has to recover. */
async function endServer({ process: child, ended }: Running): Promise<void> {
  for (const [signal, timeoutMs] of [
    ["SIGINT", FAST_SHUTDOWN_MS],
    ["SIGQUIT", IMMEDIATE_SHUTDOWN_MS],
    ["SIGKILL", IMMEDIATE_SHUTDOWN_MS],
  ] as const) {
    child.kill(signal);
    if (await isDoneWithin(ended, timeoutMs)) return;
  }
}

async function isDoneWithin(work: Promise<unknown>, timeoutMs: number): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>();
  const timer = setTimeout(() => resolve(false), timeoutMs);
  void work.then(() => resolve(true));
  const isDone = await promise;
  clearTimeout(timer);
  return isDone;
}
