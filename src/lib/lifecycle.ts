/**
 * The phase of an instance: `starting` until the database is migrated, then `ready`. After SIGTERM it is `leaving`: it isn't
 * ready, but serves requests until load balancers have noticed. Then it is `draining` and accepts no new work.
 */
type Phase = "starting" | "ready" | "leaving" | "draining";

export interface Lifecycle {
  readonly phase: Phase;
  markReady(): void;
  /** Starts the phase `leaving`, or `draining` if the instance was never ready. */
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
