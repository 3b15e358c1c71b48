import type { Jobs } from "../../jobs/runner.ts";
import { WEBHOOK_DELETIONS, type WebhookService } from "./service.ts";

/** Maximum webhooks that one instance deletes concurrently. */
const CONCURRENCY = 2;

export function registerWebhookJobs(jobs: Jobs, { webhooks }: { webhooks: Pick<WebhookService, "runDeletion"> }): void {
  jobs.registerQueue(WEBHOOK_DELETIONS, webhooks.runDeletion, { concurrency: CONCURRENCY });
}
