import type { Jobs } from "../../jobs/runner.ts";
import { type Deletions, USER_DELETIONS } from "./deletion.ts";

/** Users whom one instance deletes at the same time. */
const CONCURRENCY = 10;

export function registerAccountJobs(jobs: Jobs, { deletions }: { deletions: Deletions }): void {
  jobs.queue(USER_DELETIONS, deletions.run, { concurrency: CONCURRENCY });
}
