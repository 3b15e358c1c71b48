import type { Jobs } from "../../jobs/runner.ts";
import { type Deletions, USER_DELETIONS } from "./deletion.ts";

/** The maximum number of users that an instance deletes concurrently. */
const CONCURRENCY = 10;

export function registerAccountJobs(jobs: Jobs, { deletions }: { deletions: Deletions }): void {
  jobs.queue(USER_DELETIONS, deletions.run, { concurrency: CONCURRENCY });
}
