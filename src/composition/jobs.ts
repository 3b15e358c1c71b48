import { gatherStatistics } from "../db/statistics.ts";
import { registerAccountJobs } from "../modules/accounts/jobs.ts";
import { registerAnalyticsJobs } from "../modules/analytics/jobs.ts";
import { registerApiKeyJobs } from "../modules/api-keys/jobs.ts";
import { registerAuditJobs } from "../modules/audit/jobs.ts";
import { registerAuthJobs } from "../modules/auth/jobs.ts";
import { registerBackupJobs } from "../modules/backups/jobs.ts";
import { registerBudgetJobs } from "../modules/budgets/jobs.ts";
import { registerConversationJobs } from "../modules/conversations/jobs.ts";
import { registerGenerationJobs } from "../modules/generations/jobs.ts";
import { registerImportJobs } from "../modules/imports/jobs.ts";
import { registerPromptJobs } from "../modules/prompts/jobs.ts";
import { registerRevocationJobs } from "../modules/revocations/jobs.ts";
import { registerSearchJobs } from "../modules/search/jobs.ts";
import { registerSocketJobs } from "../modules/socket/jobs.ts";
import { registerDeliveryJobs } from "../modules/webhooks/delivery/jobs.ts";
import { registerWebhookJobs } from "../modules/webhooks/jobs.ts";
import type { ServiceDependencies, Services } from "./services.ts";

const STATISTICS_MS = 2_000;
const IDEMPOTENCY_RENEWAL_MS = 10_000;
const IDEMPOTENCY_SWEEP_MS = 60_000;

/** Registers the background jobs of all modules. `jobs.start` starts them. */
export function registerJobs(services: Services, { database }: ServiceDependencies): void {
  const { jobs, idempotency } = services;
  jobs.scheduleOnEachInstance("statistics", STATISTICS_MS, async () => void (await gatherStatistics(database)));
  jobs.scheduleOnEachInstance("idempotency-leases", IDEMPOTENCY_RENEWAL_MS, idempotency.renewAttempts);
  jobs.scheduleOnOneInstance(
    "idempotency-keys",
    IDEMPOTENCY_SWEEP_MS,
    async (signal) => void (await idempotency.deleteExpiredKeys(signal)),
  );
  registerSocketJobs(jobs, services);
  registerRevocationJobs(jobs, services);
  registerGenerationJobs(jobs, services);
  registerBudgetJobs(jobs, services);
  registerAuthJobs(jobs, services);
  registerApiKeyJobs(jobs, services);
  registerAccountJobs(jobs, services);
  registerConversationJobs(jobs, services);
  registerImportJobs(jobs, services);
  registerPromptJobs(jobs, services);
  registerSearchJobs(jobs, services);
  registerWebhookJobs(jobs, services);
  registerDeliveryJobs(jobs, { ...services, database });
  registerAuditJobs(jobs, services);
  registerAnalyticsJobs(jobs, services);
  registerBackupJobs(jobs, services);
}
