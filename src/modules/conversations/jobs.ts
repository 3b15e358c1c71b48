import type { Jobs } from "../../jobs/runner.ts";
import type { ActivityMover, ConversationWork, ErasureJobs } from "./service.ts";

const ERASURE_INTERVAL_MS = 1_000;
/** How often active conversations are moved to the top of their members' lists. */
const ACTIVITY_INTERVAL_MS = 1_000;
/** This is short, so that requests for titles and summaries stop soon after their conversation is deleted. */
const STOP_WORK_INTERVAL_MS = 500;

type Services = {
  erasures: ErasureJobs;
  activityMover: ActivityMover;
  followUps: ConversationWork;
};

export function registerConversationJobs(jobs: Jobs, services: Services): void {
  const { erasures, activityMover, followUps } = services;
  jobs.scheduleOnOneInstance("erasures", ERASURE_INTERVAL_MS, erasures.run, erasures.isDue);
  jobs.scheduleOnEachInstance("work in deleted conversations", STOP_WORK_INTERVAL_MS, () =>
    erasures.stopWork(followUps),
  );
  jobs.scheduleOnOneInstance("activity", ACTIVITY_INTERVAL_MS, activityMover.run, activityMover.isDue);
}
