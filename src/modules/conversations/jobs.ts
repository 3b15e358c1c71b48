import type { Jobs } from "../../jobs/runner.ts";
import type { Activity, ConversationWork, ErasureJobs } from "./service.ts";

const ERASURE_INTERVAL_MS = 1_000;
const ACTIVITY_INTERVAL_MS = 1_000;
/** This is short, so that requests for titles and summaries stop soon after their conversation is deleted. */
const ENDED_WORK_INTERVAL_MS = 500;

type Services = {
  erasures: ErasureJobs;
  activity: Activity;
  followUps: ConversationWork;
};

export function registerConversationJobs(jobs: Jobs, services: Services): void {
  const { erasures, activity, followUps } = services;
  jobs.everyOnOne("erasures", ERASURE_INTERVAL_MS, erasures.run, erasures.isDue);
  jobs.everyOnEach("work in deleted conversations", ENDED_WORK_INTERVAL_MS, () => erasures.stopWork(followUps));
  jobs.everyOnOne("activity", ACTIVITY_INTERVAL_MS, activity.run, activity.isDue);
}
