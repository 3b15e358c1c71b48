import type { Jobs } from "../../jobs/runner.ts";
import type { Activity, ConversationWork, Erasures } from "./service.ts";

const ERASURE_MS = 1_000;
const ACTIVITY_MS = 1_000;
/** Short, so that requests for titles and summaries stop within two seconds after their conversation is deleted. */
const ENDED_WORK_MS = 500;

type Services = {
  erasures: Erasures;
  activity: Activity;
  followUps: ConversationWork;
};

export function registerConversationJobs(jobs: Jobs, services: Services): void {
  const { erasures, activity, followUps } = services;
  jobs.everyOnOne("erasures", ERASURE_MS, erasures.run, erasures.isDue);
  jobs.everyOnEach("work in deleted conversations", ENDED_WORK_MS, () => erasures.endWork(followUps));
  jobs.everyOnOne("activity", ACTIVITY_MS, activity.run, activity.isDue);
}
