/**
 * The phase of an instance: `starting` until the database is migrated, then `ready`. After the first SIGTERM it is `leaving`:
 * not ready, but serving as before until load balancers notice. Then it is `draining`, and accepts no new work.
 */
type Phase = "starting" | "ready" | "leaving" | "draining";

/** The phase of this process, which only moves forward. */
export interface Lifecycle {
  readonly phase: Phase;
  markReady(): void;
  /** An instance that was never ready drains immediately. */
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
