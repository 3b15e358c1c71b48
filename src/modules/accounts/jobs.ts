import type { Jobs } from "../../jobs/runner.ts";
import { type DeletionService, USER_DELETIONS } from "./deletion.ts";

/** The maximum number of users that an instance deletes concurrently. */
const CONCURRENT_DELETIONS_MAX = 10;

export function registerAccountJobs(jobs: Jobs, { deletions }: { deletions: DeletionService }): void {
  jobs.registerQueue(USER_DELETIONS, deletions.run, { concurrency: CONCURRENT_DELETIONS_MAX });
}
