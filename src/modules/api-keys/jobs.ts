import type { Jobs } from "../../jobs/runner.ts";
import { repeatUntilDone } from "../../lib/batches.ts";
import type { ApiKeyService } from "./service.ts";

const SWEEP_INTERVAL_MS = 5 * 60_000;

export function registerApiKeyJobs(jobs: Jobs, { apiKeys }: { apiKeys: Pick<ApiKeyService, "deleteExpired"> }): void {
  jobs.scheduleOnOneInstance(
    "api-keys",
    SWEEP_INTERVAL_MS,
    async (signal) => void (await repeatUntilDone(apiKeys.deleteExpired, signal)),
  );
}
