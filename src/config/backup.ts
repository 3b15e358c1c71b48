import { join, resolve, sep } from "node:path";
import { FormatRegistry, Type } from "@sinclair/typebox";
import { findScheduleProblem, isTimeZone } from "../lib/cron.ts";
import type { SettingOptions } from "./setting-options.ts";

FormatRegistry.Set("cron", (value) => findScheduleProblem(value) === null);
FormatRegistry.Set("time-zone", isTimeZone);

const BACKUPS_KEPT_MAX = 10_000;

const backupCount = (options: SettingOptions & { default: number; minimum: number }) =>
  Type.Integer({ ...options, maximum: BACKUPS_KEPT_MAX });

/** Backup settings; see docs/backup.md. */
export const backupSettings = {
  BACKUP_SCHEDULE: Type.Optional(
    Type.String({
      minLength: 1,
      maxLength: 200,
      format: "cron",
      example: "15 2 * * *",
      description:
        "Schedule for automatic backups, as a cron expression: minute, hour, day, month, weekday. If unset, no automatic " +
        "backups are made.",
    }),
  ),
  BACKUP_TIMEZONE: Type.String({
    default: "UTC",
    maxLength: 100,
    format: "time-zone",
    example: "Europe/Berlin",
    description: "Time zone of `BACKUP_SCHEDULE`.",
  }),
  BACKUP_DIR: Type.Optional(
    Type.String({
      minLength: 1,
      example: "/backups",
      description:
        "Folder for scheduled backups, preferably on a different disk. If unset, `backups` in `DATA_DIR` is used.",
    }),
  ),
  BACKUP_S3_BUCKET: Type.Optional(
    Type.String({
      minLength: 1,
      pattern: "^[A-Za-z0-9][A-Za-z0-9._-]{1,254}$",
      example: "my-backups",
      description: "S3 (or S3-compatible) bucket for scheduled backups, instead of `BACKUP_DIR`.",
    }),
  ),
  BACKUP_S3_PREFIX: Type.Optional(
    Type.String({
      pattern: "^[A-Za-z0-9_][A-Za-z0-9._-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*)*/?$",
      maxLength: 500,
      example: "parley/production",
      description:
        "Folder in the bucket: letters, digits and `._-`, separated by slashes. If unset, backups are stored at the top level.",
    }),
  ),
  BACKUP_S3_REGION: Type.String({
    default: "us-east-1",
    pattern: "^[A-Za-z0-9-]{1,64}$",
    description: "Region of the bucket.",
  }),
  BACKUP_S3_ENDPOINT: Type.Optional(
    Type.String({
      format: "http-url",
      example: "https://s3.example.com",
      description: "URL of the S3-compatible store. If unset, AWS is used.",
    }),
  ),
  BACKUP_S3_ACCESS_KEY_ID: Type.Optional(
    Type.String({
      pattern: "^[\\x21-\\x7e]+$",
      secret: true,
      description: "Id of an access key with permission to list, read, write and delete objects in the bucket.",
    }),
  ),
  BACKUP_S3_SECRET_ACCESS_KEY: Type.Optional(
    Type.String({ pattern: "^[\\x21-\\x7e]+$", secret: true, description: "Secret of `BACKUP_S3_ACCESS_KEY_ID`." }),
  ),
  BACKUP_KEEP: backupCount({
    default: 7,
    minimum: 1,
    description: "Number of scheduled backups to keep, newest first. Older ones are deleted after a successful backup.",
  }),
  BACKUP_KEEP_DAILY: backupCount({
    default: 0,
    minimum: 0,
    description:
      "Number of most recent days (UTC) whose newest backup is also kept. Days without a backup don't count.",
  }),
  BACKUP_KEEP_WEEKLY: backupCount({
    default: 0,
    minimum: 0,
    description:
      "Number of most recent weeks (from Monday, UTC) whose newest backup is also kept. Weeks without a backup don't count.",
  }),
  BACKUP_PASSPHRASE: Type.Optional(
    Type.String({
      minLength: 1,
      maxLength: 1_024,
      secret: true,
      protectsAccess: true,
      description:
        "Passphrase that encrypts backups; `parley verify` and `parley restore` need it too. Encrypted backups can't be read " +
        "without it. If unset, backups are not encrypted, unless you run `parley backup --encrypt`.",
    }),
  ),
};

type BackupConfig = {
  BACKUP_SCHEDULE?: string;
  BACKUP_DIR?: string;
  BACKUP_S3_BUCKET?: string;
  BACKUP_S3_PREFIX?: string;
  BACKUP_S3_ENDPOINT?: string;
  BACKUP_S3_ACCESS_KEY_ID?: string;
  BACKUP_S3_SECRET_ACCESS_KEY?: string;
  DATA_DIR: string;
  DATABASE_URL?: string;
};

const s3OnlySettings = [
  "BACKUP_S3_PREFIX",
  "BACKUP_S3_ENDPOINT",
  "BACKUP_S3_ACCESS_KEY_ID",
  "BACKUP_S3_SECRET_ACCESS_KEY",
] as const;

/** Returns the folder for scheduled backups. */
export const findBackupDir = ({ BACKUP_DIR, DATA_DIR }: Pick<BackupConfig, "BACKUP_DIR" | "DATA_DIR">): string =>
  resolve(BACKUP_DIR ?? join(DATA_DIR, "backups"));

/** Finds problems with the backup settings. @param findFolderProblem see src/lib/folder-check.ts. */
export function findBackupProblems(config: BackupConfig, findFolderProblem: (path: string) => string | null): string[] {
  if (config.BACKUP_S3_BUCKET !== undefined) return findBucketProblems(config);
  const ineffectiveSettings = s3OnlySettings
    .filter((name) => config[name] !== undefined)
    .map((name) => `${name}: has no effect without BACKUP_S3_BUCKET; set both.`);
  if (ineffectiveSettings.length > 0 || config.BACKUP_SCHEDULE === undefined) return ineffectiveSettings;
  const folder = findBackupDir(config);
  if (config.DATABASE_URL === undefined && isInside(folder, join(config.DATA_DIR, "postgres")))
    return [
      `BACKUP_DIR: ${folder} is inside the database's folder, which must not contain other files; choose a different folder.`,
    ];
  const problem = findFolderProblem(folder);
  return problem === null ? [] : [`BACKUP_DIR: ${problem}`];
}

function findBucketProblems(config: BackupConfig): string[] {
  const problems = (["BACKUP_S3_ACCESS_KEY_ID", "BACKUP_S3_SECRET_ACCESS_KEY"] as const)
    .filter((name) => config[name] === undefined)
    .map((name) => `${name}: required with BACKUP_S3_BUCKET; use a key with write access to the bucket.`);
  if (config.BACKUP_DIR !== undefined)
    problems.push("BACKUP_DIR and BACKUP_S3_BUCKET: only one of them is allowed; remove one.");
  return problems;
}

/** Finds backup settings that are probably mistakes. */
export function findBackupWarnings(config: BackupConfig): string[] {
  const targetSetting = (["BACKUP_DIR", "BACKUP_S3_BUCKET"] as const).find((name) => config[name] !== undefined);
  if (config.BACKUP_SCHEDULE === undefined)
    return targetSetting === undefined
      ? []
      : [
          `${targetSetting} is set, but BACKUP_SCHEDULE is not, so no automatic backups are made; set BACKUP_SCHEDULE (for example 15 2 * * *).`,
        ];
  const folder = findBackupDir(config);
  if (config.BACKUP_S3_BUCKET !== undefined || !isInside(folder, config.DATA_DIR)) return [];
  return [
    `Scheduled backups are written to ${folder}, inside DATA_DIR, and would be lost together with it; set BACKUP_DIR to a folder on a different disk.`,
  ];
}

const isInside = (path: string, folder: string): boolean => `${path}${sep}`.startsWith(`${resolve(folder)}${sep}`);
