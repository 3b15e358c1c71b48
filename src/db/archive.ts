/** Backups. docs/backup.md describes the format. */
export { writeBackup } from "./archive/backup.ts";
export type { ByteSource } from "./archive/byte-reader.ts";
export { ArchiveError } from "./archive/error.ts";
export { type BackupFile, createBackupFile, openBackupFile, STREAM } from "./archive/file.ts";
export { restoreBackup } from "./archive/restore.ts";
export { fingerprintSecret, type ServerSecret } from "./archive/secret.ts";
export type { BackupSummary, Progress } from "./archive/summary.ts";
export { verifyBackup } from "./archive/verify.ts";
export type { Sink } from "./archive/writer.ts";
