import type { ByteSource } from "./byte-reader.ts";
import { readBackup } from "./read-backup.ts";
import type { ReadOptions } from "./reader.ts";
import type { BackupSummary, Progress } from "./summary.ts";

export type VerifyOptions = ReadOptions & { onProgress?: ((progress: Progress) => void) | undefined };

/**
 * Verifies a backup in a single pass, without a database.
 * @throws ArchiveError if the backup is invalid. Also throws the source's errors and the signal's reason.
 */
export const verifyBackup = (
  source: ByteSource,
  { onProgress, ...options }: VerifyOptions = {},
): Promise<BackupSummary> => readBackup(source, options, { onProgress });
