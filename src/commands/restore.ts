import { resolve } from "node:path";
import type { Config } from "../config.ts";
import { type BackupSummary, fingerprintSecret, openBackupFile, type Progress, restoreBackup } from "../db/archive.ts";
import { createLog } from "../lib/log.ts";
import { describeBackup } from "./backup-summary.ts";
import { type Command, exitCodes, parseFileOptions } from "./command.ts";
import { describeConfiguredDatabase } from "./database-description.ts";
import { runInterruptibly } from "./interruption.ts";
import { findServerSecret, storeJwtSecret } from "./jwt-secret.ts";
import { loadConfigFrom } from "./load-config.ts";
import { createProgressLine } from "./progress.ts";
import { findOrAskPassphrase } from "./verify.ts";
import { withDatabase } from "./with-database.ts";

const stepDescriptions = {
  indexes: "building indexes",
  statistics: "gathering statistics",
  migrations: "migrating",
} as const;

export const restoreCommand: Command = {
  name: "restore",
  summary: "load a backup into an empty database (restore FILE)",
  help: `Usage: parley restore FILE

Loads a backup into the configured database: DATABASE_URL, or the embedded one in DATA_DIR. The database must be empty, and no
Parley may be running on it. The restore is all or nothing: if it is interrupted, run it again. Backups can be moved between
the embedded database and a Postgres server (15 or newer) in both directions, and from older versions of Parley to newer ones.
\`-\` reads from standard input.

The passphrase of an encrypted backup comes from BACKUP_PASSPHRASE (or BACKUP_PASSPHRASE_FILE), otherwise from
the terminal or standard input.`,

  async run(args, environment) {
    const { file } = parseFileOptions("restore", args, {});
    const config = loadConfigFrom(environment);
    const log = createLog("silent", config.LOG_FORMAT);
    const progressLine = createProgressLine();
    await runInterruptibly("The restore was interrupted; nothing was changed.", async (signal) => {
      const { source, sizeBytes, getFractionRead } = await openBackupFile(file);
      const onProgress = (progress: Progress) => progressLine.show({ ...progress, fractionDone: getFractionRead() });
      try {
        const summary = await withDatabase(
          config,
          log,
          (database) =>
            restoreBackup(source, {
              database,
              log,
              signal,
              notEmptyRemedy: createNotEmptyRemedy(config),
              getPassphrase: () => findOrAskPassphrase(environment, file),
              onSecret: async (secret) => void storeSecret(config, secret),
              onProgress,
              onStep: (step) => progressLine.print(stepDescriptions[step]),
            }),
          { canUseRunningPostgres: false },
        );
        progressLine.clear();
        console.log(
          `The backup was restored into ${describeConfiguredDatabase(config)}.\n${describeBackup(summary, sizeBytes)}`,
        );
        for (const name of summary.migrated) console.log(`migrated     ${name}`);
        const warning = findSecretWarning(config, summary);
        if (warning) console.error(warning);
      } catch (error) {
        progressLine.clear();
        throw error;
      }
    });
    return exitCodes.success;
  },
};

const createNotEmptyRemedy = ({ DATABASE_URL, DATA_DIR }: Config): string =>
  DATABASE_URL === undefined
    ? `move ${resolve(DATA_DIR)} away, or set DATA_DIR to a different folder, and restore again`
    : "create another database, set DATABASE_URL to it, and restore again";

/** Stores the secret in a file. If JWT_SECRET is set, the server ignores the file, but the operator can find the secret in it. */
function storeSecret({ JWT_SECRET, DATA_DIR }: Config, secret: string): void {
  if (JWT_SECRET !== secret) storeJwtSecret(DATA_DIR, secret);
}

/** Returns a warning if Parley would start with a secret that differs from the backup's; otherwise null. */
function findSecretWarning(config: Config, { jwtSecret }: BackupSummary): string | null {
  const currentSecret = findServerSecret(config);
  if (
    jwtSecret.fingerprint === null ||
    (currentSecret && fingerprintSecret(currentSecret.value) === jwtSecret.fingerprint)
  )
    return null;
  const consequence = "otherwise all users must log in again, and the secrets of webhooks and hooks can't be read";
  return jwtSecret.state === "included"
    ? `JWT_SECRET is not the secret in the backup. Set it to the content of ${resolve(config.DATA_DIR, "jwt-secret")} before you start Parley; ${consequence}.`
    : `The backup was made with a JWT_SECRET that is not set here. Set JWT_SECRET to the same value before you start Parley; ${consequence}.`;
}
