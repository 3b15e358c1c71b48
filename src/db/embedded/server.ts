import type { ChildProcess } from "node:child_process";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { Log } from "../../lib/log.ts";
import { EmbeddedPostgresError } from "./error.ts";
import type { Launch } from "./launcher.ts";
import { disownPostmasterFile, readPostmasterFile } from "./postmaster-file.ts";
import type { ServerLog } from "./server-log.ts";
import { createServerSettings } from "./settings.ts";

const READY_POLL_MS = 10;
/** The timeout of a start. Crash recovery replays at most `max_wal_size`, which is much faster unless the machine is broken. */
const START_TIMEOUT_MS = 300_000;
const STILL_STARTING_LOG_INTERVAL_MS = 10_000;
/** The maximum time to wait for the processes of a killed server to exit. On a busy machine, they take seconds. */
const LEFTOVER_TIMEOUT_MS = 30_000;
const LEFTOVER_POLL_MS = 200;
const SHARED_MEMORY_IN_USE = /pre-existing shared memory block/;
const RESTART_DELAY_MIN_MS = 100;
const RESTART_DELAY_MAX_MS = 5_000;
/** If a server has run longer than this, it is restarted with the minimum delay. */
const STABLE_AFTER_MS = 10_000;
const FAST_SHUTDOWN_MS = 15_000;
const IMMEDIATE_SHUTDOWN_MS = 5_000;

export type ServerOptions = {
  clusterDir: string;
  installDir: string;
  poolSize: number;
  launch: Launch;
  serverLog: ServerLog;
  log: Log;
};

export type Server = { stop(): Promise<void> };

type RunningServer = { process: ChildProcess; startedAtMs: number; logOffset: number; exitReason: Promise<string> };

/**
 * Starts the server, waits until it accepts connections, and restarts it whenever it exits unexpectedly.
 * @throws EmbeddedPostgresError if the server doesn't start.
 */
export async function runServer(options: ServerOptions): Promise<Server> {
  const { log } = options;
  const stopping = new AbortController();
  let runningServer = await launchInitialServer(options);
  const supervision = supervise();

  async function supervise(): Promise<void> {
    let delayMs = RESTART_DELAY_MIN_MS;
    for (;;) {
      const reportedExit = await runningServer.exitReason;
      if (stopping.signal.aborted) return;
      const reason = options.serverLog.findReason(runningServer.logOffset);
      log.error(
        { ending: reportedExit, reason, restart_in_ms: delayMs },
        "the embedded Postgres exited unexpectedly; restarting it",
      );
      await sleep(delayMs, undefined, { signal: stopping.signal }).catch(() => {});
      if (stopping.signal.aborted) return;
      const isStable = performance.now() - runningServer.startedAtMs > STABLE_AFTER_MS;
      delayMs = isStable ? RESTART_DELAY_MIN_MS : Math.min(delayMs * 2, RESTART_DELAY_MAX_MS);
      runningServer = launchServer(options);
      if ((await waitUntilReady(runningServer, options)) === null) log.info("the embedded Postgres is running again");
    }
  }

  return {
    async stop() {
      stopping.abort();
      await stopServer(runningServer);
      await supervision;
    },
  };
}

/** Launches the server. Retries while processes of a killed server still use its shared memory. @throws EmbeddedPostgresError. */
async function launchInitialServer(options: ServerOptions): Promise<RunningServer> {
  for (const deadlineMs = performance.now() + LEFTOVER_TIMEOUT_MS; ; ) {
    const running = launchServer(options);
    const problem = await waitUntilReady(running, options);
    if (problem === null) return running;
    await stopServer(running);
    if (!SHARED_MEMORY_IN_USE.test(problem) || performance.now() > deadlineMs)
      throw new EmbeddedPostgresError(`The embedded Postgres failed to start: ${problem}`);
    await Bun.sleep(LEFTOVER_POLL_MS);
  }
}

function launchServer({ clusterDir, installDir, poolSize, launch, serverLog }: ServerOptions): RunningServer {
  const settings = Object.entries(createServerSettings(poolSize)).flatMap(([name, value]) => [
    "-c",
    `${name}=${value}`,
  ]);
  const logOffset = serverLog.getSizeBytes();
  disownPostmasterFile(clusterDir);
  const child = launch(join(installDir, "bin/postgres"), ["-D", clusterDir, ...settings], serverLog.descriptor);
  const exitReason = new Promise<string>((resolve) => {
    child.once("error", (error) => resolve(error.message));
    child.once("exit", (code, signal) => resolve(signal ? `signal ${signal}` : `exit code ${code}`));
  });
  return { process: child, startedAtMs: performance.now(), logOffset, exitReason };
}

/** Waits until the server accepts connections. @returns null if it accepts them, or the reason why it doesn't. */
async function waitUntilReady(
  running: RunningServer,
  { clusterDir, serverLog, log }: ServerOptions,
): Promise<string | null> {
  let reportedExit: string | null = null;
  void running.exitReason.then((text) => {
    reportedExit = text;
  });
  let nextNoticeMs = STILL_STARTING_LOG_INTERVAL_MS;
  for (;;) {
    if (reportedExit !== null) return serverLog.findReason(running.logOffset) || reportedExit;
    const file = readPostmasterFile(clusterDir);
    if (file?.pid === running.process.pid && file?.isReady) return null;
    const waitedMs = performance.now() - running.startedAtMs;
    if (waitedMs > START_TIMEOUT_MS) return `it didn't accept connections within ${START_TIMEOUT_MS / 1000} seconds`;
    if (waitedMs > nextNoticeMs) {
      log.info({ waited_ms: Math.round(waitedMs) }, "the embedded Postgres is still starting; it may be recovering");
      nextNoticeMs += STILL_STARTING_LOG_INTERVAL_MS;
    }
    await Bun.sleep(READY_POLL_MS);
  }
}

/** Shuts down the server in fast mode. If that takes too long, uses immediate mode, after which the next start runs crash recovery. */
async function stopServer({ process: child, exitReason }: RunningServer): Promise<void> {
  for (const [signal, timeoutMs] of [
    ["SIGINT", FAST_SHUTDOWN_MS],
    ["SIGQUIT", IMMEDIATE_SHUTDOWN_MS],
    ["SIGKILL", IMMEDIATE_SHUTDOWN_MS],
  ] as const) {
    child.kill(signal);
    if (await hasSettledWithin(exitReason, timeoutMs)) return;
  }
}

async function hasSettledWithin(work: Promise<unknown>, timeoutMs: number): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>();
  const timer = setTimeout(() => resolve(false), timeoutMs);
  void work.then(() => resolve(true));
  const isDone = await promise;
  clearTimeout(timer);
  return isDone;
}
