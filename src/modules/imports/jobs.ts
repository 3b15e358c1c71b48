import type { Jobs } from "../../jobs/runner.ts";
import { IMPORTS, type ImportService } from "./service.ts";

/** Concurrent imports per instance. Running more would only slow down each one. */
const CONCURRENCY = 1;
const SWEEP_INTERVAL_MS = 60_000;

export function registerImportJobs(jobs: Jobs, { imports }: { imports: Pick<ImportService, "run" | "sweep"> }): void {
  jobs.registerQueue(IMPORTS, imports.run, { concurrency: CONCURRENCY });
  jobs.scheduleOnOneInstance("imports", SWEEP_INTERVAL_MS, imports.sweep);
}
