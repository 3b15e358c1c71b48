import type { Jobs } from "../../jobs/runner.ts";
import type { BackupService } from "./service.ts";

const POLL_INTERVAL_MS = 5_000;

/** Registers the job that makes backups. The first instance that notices a due backup makes it. */
export function registerBackupJobs(jobs: Jobs, { backups }: { backups: BackupService | null }): void {
  if (backups) jobs.scheduleOnOneInstance("backup", POLL_INTERVAL_MS, backups.makeDueBackup, backups.isDue);
}
