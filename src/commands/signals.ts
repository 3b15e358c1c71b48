import type { Log } from "../lib/log.ts";

/** What the outside wants of a running server. */
export type Wishes = {
  /** Aborted by the first SIGTERM, SIGINT or SIGQUIT, and when the process crashed: come to an end. */
  stop: AbortSignal;
  /** Aborted by the second signal: end now. */
  hurry: AbortSignal;
  /** Whether an error got past everything, so that the process is in an unknown state. */
  hasCrashed(): boolean;
  /** What a SIGHUP does from now on; without effect once the end has begun. Nobody is ended by one. */
  onHangup(listener: () => void): void;
};

/** Watches signals and errors that nobody caught. A rejection that nobody awaited is logged, and the server stays. */
export function watchProcess(log: Log): Wishes {
  const stop = new AbortController();
  const hurry = new AbortController();
  let hasCrashed = false;
  const onSignal = (signal: NodeJS.Signals) => {
    if (stop.signal.aborted) {
      log.warn({ signal }, "stopping now");
      hurry.abort();
      return;
    }
    log.info({ signal }, "stopping; a second signal stops at once");
    stop.abort();
  };
  process.on("SIGTERM", onSignal);
  process.on("SIGINT", onSignal);
  // By default it would end the process at once, and dump its memory.
  process.on("SIGQUIT", onSignal);
  let hangup = () => log.info("SIGHUP: there is nothing to read again yet");
  process.on("SIGHUP", () => {
    if (!stop.signal.aborted) hangup();
  });
  process.on("uncaughtException", (error) => {
    log.fatal({ err: error }, "an error got past everything; stopping");
    hasCrashed = true;
    stop.abort();
  });
  process.on("unhandledRejection", (reason) => {
    log.error({ err: reason }, "a promise was rejected and nobody awaited it");
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

/** Fulfils when the signal is aborted. */
export function untilAborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener("abort", () => resolve(), { once: true });
  });
}
