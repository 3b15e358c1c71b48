import type { Jobs } from "../../jobs/runner.ts";
import { PROMPT_DELETIONS, type PromptService } from "./service.ts";

/** Maximum prompts that one instance deletes concurrently. */
const CONCURRENCY = 4;

export function registerPromptJobs(jobs: Jobs, { prompts }: { prompts: Pick<PromptService, "runDeletion"> }): void {
  jobs.registerQueue(PROMPT_DELETIONS, prompts.runDeletion, { concurrency: CONCURRENCY });
}
