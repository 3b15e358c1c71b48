import { openBackupFile, type Progress, STDIO, verifyBackup } from "../db/archive.ts";
import { describeBackup, describeSecret } from "./backup-summary.ts";
import { type Command, exitCodes, parseFileOptions, UsageError } from "./command.ts";
import { runInterruptibly } from "./interruption.ts";
import { askPassphrase, findPassphrase } from "./passphrase.ts";
import { createProgressLine } from "./progress.ts";

export const verifyCommand: Command = {
  name: "verify",
  summary: "check that a backup is complete and unchanged (verify FILE)",
  help: `Usage: parley verify FILE

Reads a backup once, checks every part of it, and prints its contents; no database is needed. Exits with 1 and the reason if
the backup is damaged, truncated, not made by Parley, or made by a newer version. \`-\` reads from standard input.

The passphrase of an encrypted backup comes from BACKUP_PASSPHRASE (or BACKUP_PASSPHRASE_FILE), otherwise from
the terminal or standard input.`,

  async run(args, environment) {
    const { file } = parseFileOptions("verify", args, {});
    const progressLine = createProgressLine();
    await runInterruptibly("The check was interrupted.", async (signal) => {
      const { source, sizeBytes, getFractionRead } = await openBackupFile(file);
      const onProgress = (progress: Progress) => progressLine.show({ ...progress, fractionDone: getFractionRead() });
      try {
        const getPassphrase = () => findOrAskPassphrase(environment, file);
        const summary = await verifyBackup(source, { getPassphrase, signal, onProgress });
        progressLine.clear();
        console.log(`The backup is valid.\n${describeBackup(summary, sizeBytes)}\n${describeSecret(summary)}`);
      } catch (error) {
        progressLine.clear();
        throw error;
      }
    });
    return exitCodes.success;
  },
};

/** Returns the configured passphrase, or asks for it. @throws UsageError if no passphrase is available. */
export async function findOrAskPassphrase(
  environment: Record<string, string | undefined>,
  file: string,
): Promise<string> {
  const passphrase = findPassphrase(environment);
  if (passphrase !== undefined) return passphrase;
  if (file === STDIO)
    throw new UsageError(
      "The backup is encrypted and read from standard input, so the passphrase can't be; set BACKUP_PASSPHRASE.",
    );
  return askPassphrase();
}
