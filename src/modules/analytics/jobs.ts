import type { Jobs } from "../../jobs/runner.ts";
import type { AnalyticsService } from "./service.ts";

/** Nobody waits for it: a read counts what is new by itself. */
const REFRESH_MS = 60_000;

export function registerAnalyticsJobs(
  jobs: Jobs,
  { analytics }: { analytics: Pick<AnalyticsService, "refresh"> },
): void {
  jobs.everyOnOne("analytics", REFRESH_MS, analytics.refresh);
}
