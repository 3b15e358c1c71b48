import type { Jobs } from "../../jobs/runner.ts";
import type { Sockets } from "./sockets.ts";

const SWEEP_MS = 1_000;

export function registerSocketJobs(jobs: Jobs, { sockets }: { sockets: Sockets }): void {
  jobs.everyOnEach("sockets", SWEEP_MS, async () => sockets.sweep());
}
