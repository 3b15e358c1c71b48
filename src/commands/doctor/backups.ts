import { createBackupStore } from "../../composition/backups.ts";
import { findBackupDir } from "../../config.ts";
import { abortable } from "../../lib/abortable.ts";
import { findFolderProblem } from "../../lib/folder-check.ts";
import { type DoctorCheck, REQUEST_TIMEOUT_MS } from "./check.ts";
import { ok, problem, skipped, warning } from "./finding.ts";

export const backupsCheck: DoctorCheck = {
  name: "backups",
  async find({ config, isOffline }) {
    if (config.BACKUP_SCHEDULE === undefined) {
      const sentence =
        "BACKUP_SCHEDULE is not set, so no automatic backups are made; set it, or back up in another way.";
      return [config.APP_ENV === "production" ? warning(sentence) : skipped("BACKUP_SCHEDULE is not set.")];
    }
    if (config.BACKUP_S3_BUCKET === undefined) {
      const folder = findBackupDir(config);
      const found = findFolderProblem(folder);
      return [found === null ? ok(`Backups can be written to ${folder}.`) : problem(`BACKUP_DIR: ${found}`)];
    }
    if (isOffline) return [skipped("--offline: the bucket of backups is not called.")];
    const store = createBackupStore(config);
    const limit = AbortSignal.timeout(REQUEST_TIMEOUT_MS);
    try {
      await abortable(store.list(), limit);
      return [ok(`${store.location} can be listed; whether it can be written shows the first backup.`)];
    } catch (error) {
      if (!limit.aborted) return [problem(error instanceof Error ? error.message : String(error))];
      const sentence = `${store.location} did not respond within ${REQUEST_TIMEOUT_MS / 1_000} s`;
      return [problem(`${sentence}; check BACKUP_S3_ENDPOINT, BACKUP_S3_REGION and the network.`)];
    }
  },
};
