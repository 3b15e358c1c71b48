/**
 * Where an instance stands: `starting` until the database is migrated. From the first SIGTERM on it is `leaving`: not ready any more,
 * but it serves as before, because proxies take a moment to notice. Then it is `draining`, and takes on nothing new.
 */
type Phase = "starting" | "ready" | "leaving" | "draining";

/** The one place that knows the phase; it only ever moves forward. */
export interface Lifecycle {
  readonly phase: Phase;
  markReady(): void;
  /** An instance that was never ready has nothing to go on with, and drains at once. */
  markLeaving(): void;
  markDraining(): void;
}

export function createLifecycle(): Lifecycle {
  let phase: Phase = "starting";
  return {
    get phase() {
      return phase;
    },
    markReady() {
      if (phase === "starting") phase = "ready";
    },
    markLeaving() {
      if (phase === "ready") phase = "leaving";
      else if (phase === "starting") phase = "draining";
    },
    markDraining() {
      phase = "draining";
    },
  };
}
