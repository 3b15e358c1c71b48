import type { Jobs } from "../../jobs/runner.ts";
import { WEBHOOK_DELETIONS, type WebhookService } from "./service.ts";

/** Maximum webhooks that one instance deletes concurrently. */
const CONCURRENCY = 2;

export function registerWebhookJobs(jobs: Jobs, { webhooks }: { webhooks: Pick<WebhookService, "erase"> }): void {
  jobs.queue(WEBHOOK_DELETIONS, webhooks.erase, { concurrency: CONCURRENCY });
}
