import type { Log } from "../lib/log.ts";

/** Reports signals that request a shutdown or a reload. */
export type ShutdownSignals = {
  /** Requests a graceful shutdown. Aborted by the first SIGTERM, SIGINT or SIGQUIT, and by an uncaught error. */
  stop: AbortSignal;
  /** Requests an immediate stop. Aborted by the second signal. */
  stopNow: AbortSignal;
  /** Returns whether an uncaught error has left the process in an unknown state. */
  hasCrashed(): boolean;
  /** Sets the SIGHUP handler. SIGHUP is ignored during shutdown, and never kills the process. */
  onHangup(listener: () => void): void;
};

/** Handles signals and uncaught errors. An unhandled rejection is only logged. */
export function watchProcess(log: Log): ShutdownSignals {
  const stop = new AbortController();
  const stopNow = new AbortController();
  let hasCrashed = false;
  const onSignal = (signal: NodeJS.Signals) => {
    if (stop.signal.aborted) {
      log.warn({ signal }, "stopping now");
      stopNow.abort();
      return;
    }
    log.info({ signal }, "stopping; a second signal stops immediately");
    stop.abort();
  };
  process.on("SIGTERM", onSignal);
  process.on("SIGINT", onSignal);
  // By default, SIGQUIT kills the process and dumps core.
  process.on("SIGQUIT", onSignal);
  let onHangupListener = () => log.info("SIGHUP ignored: nothing to reload yet");
  process.on("SIGHUP", () => {
    if (!stop.signal.aborted) onHangupListener();
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
    stopNow: stopNow.signal,
    hasCrashed: () => hasCrashed,
    onHangup(listener) {
      onHangupListener = listener;
    },
  };
}

/** Resolves when the signal is aborted. */
export function waitForAbort(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener("abort", () => resolve(), { once: true });
  });
}
