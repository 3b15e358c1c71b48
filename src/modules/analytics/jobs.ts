import type { Jobs } from "../../jobs/runner.ts";
import type { AnalyticsService } from "./service.ts";

/** Background work: reads also count new messages themselves. */
const REFRESH_MS = 60_000;

export function registerAnalyticsJobs(
  jobs: Jobs,
  { analytics }: { analytics: Pick<AnalyticsService, "refresh"> },
): void {
  jobs.everyOnOne("analytics", REFRESH_MS, analytics.refresh);
}
