/** Where an instance stands: `starting` until the database is migrated, `draining` from the first SIGTERM on. */
type Phase = "starting" | "ready" | "draining";

/** The one place that knows the phase; it only ever moves forward. */
export interface Lifecycle {
  readonly phase: Phase;
  markReady(): void;
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
    markDraining() {
      phase = "draining";
    },
  };
}
