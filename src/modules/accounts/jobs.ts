import type { Jobs } from "../../jobs/runner.ts";
import { DELETION_QUEUE, type Deletions } from "./deletion.ts";

/** Users whom one instance deletes at the same time. */
const CONCURRENCY = 10;

export function registerAccountJobs(jobs: Jobs, { deletions }: { deletions: Deletions }): void {
  jobs.queue(DELETION_QUEUE, deletions.run, { concurrency: CONCURRENCY });
}
