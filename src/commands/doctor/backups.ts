import { createBackupStore } from "../../composition/backups.ts";
import { findBackupDir } from "../../config.ts";
import { abortable } from "../../lib/abortable.ts";
import { findFolderProblem } from "../../lib/folder-check.ts";
import { type DoctorCheck, REQUEST_TIMEOUT_MS } from "./check.ts";
import { ok, problem, skipped, warning } from "./finding.ts";

export const backupsCheck: DoctorCheck = {
  name: "backups",
  async run({ config, isOffline }) {
    if (config.BACKUP_SCHEDULE === undefined) {
      const message =
        "BACKUP_SCHEDULE is not set, so no automatic backups are made; set it, or back up in another way.";
      return [config.APP_ENV === "production" ? warning(message) : skipped("BACKUP_SCHEDULE is not set.")];
    }
    if (config.BACKUP_S3_BUCKET === undefined) {
      const folder = findBackupDir(config);
      const error = findFolderProblem(folder);
      return [error === null ? ok(`Backups can be written to ${folder}.`) : problem(`BACKUP_DIR: ${error}`)];
    }
    if (isOffline) return [skipped("--offline: the backup bucket is not called.")];
    const store = createBackupStore(config);
    const timeoutSignal = AbortSignal.timeout(REQUEST_TIMEOUT_MS);
    try {
      await abortable(store.list(), timeoutSignal);
      return [ok(`${store.location} can be listed; the first backup shows whether it is writable.`)];
    } catch (error) {
      if (!timeoutSignal.aborted) return [problem(error instanceof Error ? error.message : String(error))];
      const message = `${store.location} did not respond within ${REQUEST_TIMEOUT_MS / 1_000} s`;
      return [problem(`${message}; check BACKUP_S3_ENDPOINT, BACKUP_S3_REGION and the network.`)];
    }
  },
};
