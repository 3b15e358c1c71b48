import type { Log } from "../lib/log.ts";

/** Signals that ask a running server to shut down or reload. */
export type ShutdownSignals = {
  /** Aborted by the first SIGTERM, SIGINT or SIGQUIT, and after an uncaught error: shut down gracefully. */
  stop: AbortSignal;
  /** Aborted by the second signal: stop immediately. */
  hurry: AbortSignal;
  /** Whether there was an uncaught error, which leaves the process in an unknown state. */
  hasCrashed(): boolean;
  /** Sets the handler of SIGHUP. The signal is ignored during shutdown, and never kills the process. */
  onHangup(listener: () => void): void;
};

/** Handles signals and uncaught errors. An unhandled rejection is only logged. */
export function watchProcess(log: Log): ShutdownSignals {
  const stop = new AbortController();
  const hurry = new AbortController();
  let hasCrashed = false;
  const onSignal = (signal: NodeJS.Signals) => {
    if (stop.signal.aborted) {
      log.warn({ signal }, "stopping now");
      hurry.abort();
      return;
    }
    log.info({ signal }, "stopping; a second signal stops immediately");
    stop.abort();
  };
  process.on("SIGTERM", onSignal);
  process.on("SIGINT", onSignal);
  // By default, SIGQUIT kills the process and dumps core.
  process.on("SIGQUIT", onSignal);
  let hangup = () => log.info("SIGHUP ignored: nothing to reload yet");
  process.on("SIGHUP", () => {
    if (!stop.signal.aborted) hangup();
  });
  process.on("uncaughtException", (error) => {
    log.fatal({ err: error }, "uncaught error; stopping");
    hasCrashed = true;
    stop.abort();
  });
  process.on("unhandledRejection", (reason) => {
    log.error({ err: reason }, "unhandled promise rejection");
  });
  return {
    stop: stop.signal,
    hurry: hurry.signal,
    hasCrashed: () => hasCrashed,
    onHangup(listener) {
      hangup = listener;
    },
  };
}

/** Fulfills when the signal is aborted. */
export function untilAborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener("abort", () => resolve(), { once: true });
  });
}
