import type { Jobs } from "../../jobs/runner.ts";
import { IMPORTS, type ImportService } from "./service.ts";

/** Concurrent imports per instance. More would only make each one slower. */
const CONCURRENCY = 1;
const SWEEP_MS = 60_000;

export function registerImportJobs(jobs: Jobs, { imports }: { imports: Pick<ImportService, "run" | "sweep"> }): void {
  jobs.queue(IMPORTS, imports.run, { concurrency: CONCURRENCY });
  jobs.everyOnOne("imports", SWEEP_MS, imports.sweep);
}
