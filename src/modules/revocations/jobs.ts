import type { Jobs } from "../../jobs/runner.ts";
import type { Revocations } from "./service.ts";

/** A caller just admitted from a one-second cache must still be disconnected within two seconds. */
const REVOCATIONS_MS = 500;

export function registerRevocationJobs(jobs: Jobs, { revocations }: { revocations: Revocations }): void {
  jobs.everyOnEach("revocations", REVOCATIONS_MS, revocations.check);
}
