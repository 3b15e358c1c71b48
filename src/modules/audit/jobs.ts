import type { Jobs } from "../../jobs/runner.ts";
import { repeatUntilDone } from "../../lib/batches.ts";
import type { AuditLog } from "./service.ts";

const SWEEP_MS = 5 * 60_000;

export function registerAuditJobs(jobs: Jobs, { auditLog }: { auditLog: Pick<AuditLog, "sweep"> }): void {
  jobs.everyOnOne("audit", SWEEP_MS, async (signal) => void (await repeatUntilDone(auditLog.sweep, signal)));
}
