import type { Jobs } from "../../jobs/runner.ts";
import type { AnalyticsService } from "./service.ts";

/** The interval at which new messages are counted in the background. Reads also count them. */
const REFRESH_INTERVAL_MS = 60_000;

export function registerAnalyticsJobs(
  jobs: Jobs,
  { analytics }: { analytics: Pick<AnalyticsService, "refresh"> },
): void {
  jobs.scheduleOnOneInstance("analytics", REFRESH_INTERVAL_MS, analytics.refresh);
}
