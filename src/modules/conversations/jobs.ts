import type { Jobs } from "../../jobs/runner.ts";
import type { Activity, Erasures } from "./service.ts";

const ERASURE_MS = 1_000;
const ACTIVITY_MS = 1_000;

type Services = { erasures: Erasures; activity: Activity };

export function registerConversationJobs(jobs: Jobs, { erasures, activity }: Services): void {
  jobs.everyOnOne("erasures", ERASURE_MS, erasures.run, erasures.isDue);
  jobs.everyOnOne("activity", ACTIVITY_MS, activity.run, activity.isDue);
}
