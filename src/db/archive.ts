// The backup format is described in docs/backup.md.
export { writeBackup } from "./archive/backup.ts";
export type { ByteSource } from "./archive/byte-reader.ts";
export { ArchiveError } from "./archive/error.ts";
export { type BackupFile, createBackupFile, openBackupFile, STDIO } from "./archive/file.ts";
export { restoreBackup } from "./archive/restore.ts";
export { fingerprintSecret, type ServerSecret } from "./archive/secret.ts";
export type { BackupSummary, Progress } from "./archive/summary.ts";
export { verifyBackup } from "./archive/verify.ts";
export type { Sink } from "./archive/writer.ts";
