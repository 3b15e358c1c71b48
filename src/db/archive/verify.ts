import type { ByteSource } from "./byte-reader.ts";
import { readBackup } from "./read-backup.ts";
import type { ReadOptions } from "./reader.ts";
import type { BackupSummary, Progress } from "./summary.ts";

export type VerifyOptions = ReadOptions & { onProgress?: ((progress: Progress) => void) | undefined };

/**
 * Verifies a backup without a database, reading it once.
 * @throws ArchiveError that says what is wrong with it; what the source throws; the signal's reason.
 */
export const verifyBackup = (
  source: ByteSource,
  { onProgress, ...options }: VerifyOptions = {},
): Promise<BackupSummary> => readBackup(source, options, { onProgress });
