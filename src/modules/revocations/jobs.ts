import type { Jobs } from "../../jobs/runner.ts";
import type { Revocations } from "./service.ts";

/** Who has just been let in by what is remembered for a second must still go within two. */
const REVOCATIONS_MS = 500;

export function registerRevocationJobs(jobs: Jobs, { revocations }: { revocations: Revocations }): void {
  jobs.everyOnEach("revocations", REVOCATIONS_MS, revocations.check);
}
