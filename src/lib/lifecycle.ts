/** Where an instance stands: `starting` until the database is migrated, `draining` from the first SIGTERM on. */
export type Phase = "starting" | "ready" | "draining";

/** The one place that knows the phase; it only ever moves forward. */
export function createLifecycle() {
  let phase: Phase = "starting";
  return {
    get phase(): Phase {
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

export type Lifecycle = ReturnType<typeof createLifecycle>;

/** A part that has to come to an end in order: it takes on no more work, and lets what runs end. */
export type Drainable = {
  name: string;
  /** @param deadlineMs when it must have ended, in milliseconds since 1970. */
  stop(deadlineMs: number): Promise<unknown>;
};
