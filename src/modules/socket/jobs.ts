import type { Jobs } from "../../jobs/runner.ts";
import type { Sockets } from "./sockets.ts";

const SWEEP_INTERVAL_MS = 1_000;

export function registerSocketJobs(jobs: Jobs, { sockets }: { sockets: Sockets }): void {
  jobs.scheduleOnEachInstance("sockets", SWEEP_INTERVAL_MS, async () => sockets.sweep());
}
