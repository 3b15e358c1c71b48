import type { Jobs } from "../../jobs/runner.ts";
import { repeatUntilDone } from "../../lib/batches.ts";
import type { AuditLog } from "./service.ts";

const SWEEP_INTERVAL_MS = 5 * 60_000;

export function registerAuditJobs(jobs: Jobs, { auditLog }: { auditLog: Pick<AuditLog, "deleteExpired"> }): void {
  jobs.scheduleOnOneInstance(
    "audit",
    SWEEP_INTERVAL_MS,
    async (signal) => void (await repeatUntilDone(auditLog.deleteExpired, signal)),
  );
}
