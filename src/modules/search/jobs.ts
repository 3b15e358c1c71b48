import type { Jobs } from "../../jobs/runner.ts";
import type { Indexer } from "./indexer.ts";

const CHECK_INTERVAL_MS = 1_000;

export function registerSearchJobs(jobs: Jobs, { searchIndexer }: { searchIndexer: Indexer }): void {
  jobs.scheduleOnOneInstance("search index", CHECK_INTERVAL_MS, searchIndexer.run, searchIndexer.isDue);
}
