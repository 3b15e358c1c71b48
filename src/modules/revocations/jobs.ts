import type { Jobs } from "../../jobs/runner.ts";
import type { Revocations } from "./service.ts";

/** Revocations must take effect within two seconds, including the one second for which callers are cached. */
const CHECK_INTERVAL_MS = 500;

export function registerRevocationJobs(jobs: Jobs, { revocations }: { revocations: Revocations }): void {
  jobs.scheduleOnEachInstance("revocations", CHECK_INTERVAL_MS, revocations.check);
}
