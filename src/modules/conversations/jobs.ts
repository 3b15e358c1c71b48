import type { Jobs } from "../../jobs/runner.ts";
import type { Erasures } from "./service.ts";

const ERASURE_MS = 1_000;

export function registerConversationJobs(jobs: Jobs, { erasures }: { erasures: Erasures }): void {
  jobs.everyOnOne("erasures", ERASURE_MS, erasures.run, erasures.isDue);
}
