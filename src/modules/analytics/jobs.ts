import type { Jobs } from "../../jobs/runner.ts";
import type { AnalyticsService } from "./service.ts";

/** How often new messages are counted in the background. Reads count them, too. */
const REFRESH_MS = 60_000;

export function registerAnalyticsJobs(
  jobs: Jobs,
  { analytics }: { analytics: Pick<AnalyticsService, "refresh"> },
): void {
  jobs.everyOnOne("analytics", REFRESH_MS, analytics.refresh);
}
