import type { Jobs } from "../../jobs/runner.ts";
import type { BackupService } from "./service.ts";

const POLL_MS = 5_000;

/** One instance at a time makes backups: the first to notice that a backup is due. */
export function registerBackupJobs(jobs: Jobs, { backups }: { backups: BackupService | null }): void {
  if (backups) jobs.everyOnOne("backup", POLL_MS, backups.makeDue, backups.isDue);
}
