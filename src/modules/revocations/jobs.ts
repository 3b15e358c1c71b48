import type { Jobs } from "../../jobs/runner.ts";
import type { Revocations } from "./service.ts";

/** Short, because a caller just admitted from a one-second cache must be disconnected within two seconds. */
const REVOCATIONS_MS = 500;

export function registerRevocationJobs(jobs: Jobs, { revocations }: { revocations: Revocations }): void {
  jobs.everyOnEach("revocations", REVOCATIONS_MS, revocations.check);
}
