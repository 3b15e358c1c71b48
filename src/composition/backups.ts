import { findBackupDir } from "../config.ts";
import { createFolderStore } from "../modules/backups/folder-store.ts";
import { createS3Store } from "../modules/backups/s3-store.ts";
import { type BackupService, createBackupService } from "../modules/backups/service.ts";
import type { BackupStore } from "../modules/backups/store.ts";
import type { Core } from "./core.ts";

/** Creates the service for scheduled backups. Returns null if BACKUP_SCHEDULE isn't set. */
export function createScheduledBackups({ config, database, log, metrics, jwtSecret }: Core): BackupService | null {
  const { BACKUP_SCHEDULE } = config;
  if (BACKUP_SCHEDULE === undefined) return null;
  return createBackupService({
    database,
    log,
    metrics,
    schedule: { pattern: BACKUP_SCHEDULE, timeZone: config.BACKUP_TIMEZONE },
    store: createBackupStore(config),
    secret: { value: jwtSecret, isConfigured: config.JWT_SECRET !== undefined },
    passphrase: config.BACKUP_PASSPHRASE,
    retention: { newest: config.BACKUP_KEEP, daily: config.BACKUP_KEEP_DAILY, weekly: config.BACKUP_KEEP_WEEKLY },
  });
}

/** Creates the store for scheduled backups: a folder or a bucket. */
export function createBackupStore(config: Core["config"]): BackupStore {
  const { BACKUP_S3_BUCKET, BACKUP_S3_PREFIX: prefix } = config;
  if (BACKUP_S3_BUCKET === undefined) return createFolderStore({ folder: findBackupDir(config) });
  return createS3Store({
    bucket: BACKUP_S3_BUCKET,
    prefix: prefix === undefined || prefix.endsWith("/") ? (prefix ?? "") : `${prefix}/`,
    region: config.BACKUP_S3_REGION,
    endpoint: config.BACKUP_S3_ENDPOINT,
    accessKeyId: config.BACKUP_S3_ACCESS_KEY_ID ?? "",
    secretAccessKey: config.BACKUP_S3_SECRET_ACCESS_KEY ?? "",
  });
}
