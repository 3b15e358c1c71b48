import { type BackupFile, createBackupFile, type Sink, STDIO, writeBackup } from "../db/archive.ts";
import { createLog } from "../lib/log.ts";
import { describeBackup, describeSecret } from "./backup-summary.ts";
import { type Command, CommandError, exitCodes, parseFileOptions, UsageError } from "./command.ts";
import { requireDatabase } from "./database-description.ts";
import { runInterruptibly } from "./interruption.ts";
import { findServerSecret } from "./jwt-secret.ts";
import { loadConfigFrom } from "./load-config.ts";
import { askPassphrase, findPassphrase } from "./passphrase.ts";
import { createProgressLine } from "./progress.ts";
import { withDatabase } from "./with-database.ts";

export const backupCommand: Command = {
  name: "backup",
  summary: "back up all data to one file, even while Parley is running (backup FILE)",
  help: `Usage: parley backup FILE [--encrypt] [--force]

Writes a consistent snapshot of all data to FILE: compressed, with checksums, readable only by its owner. Also works while
the server is running. FILE appears only when it is complete. \`-\` writes to standard output.

    --encrypt   encrypt it with a passphrase from BACKUP_PASSPHRASE (or BACKUP_PASSPHRASE_FILE), otherwise from the
                terminal or standard input. If BACKUP_PASSPHRASE is set, backups are always encrypted
    --force     replace FILE if it exists

\`parley verify FILE\` checks a backup, \`parley restore FILE\` loads it into an empty database.`,

  async run(args, environment) {
    const { values, file } = parseFileOptions("backup", args, {
      encrypt: { type: "boolean" },
      force: { type: "boolean" },
    });
    if (file === STDIO && process.stdout.isTTY)
      throw new UsageError("Standard output is a terminal; specify a file, or redirect standard output.");
    // Each write reports its own error; without this listener, the error event would crash the process.
    if (file === STDIO) process.stdout.on("error", () => {});
    const config = loadConfigFrom(environment);
    requireDatabase(config);
    const passphrase = findPassphrase(environment) ?? (values.encrypt ? await askPassphrase(true) : undefined);
    const secret = findServerSecret(config);
    const progressLine = createProgressLine();
    await runInterruptibly("The backup was interrupted; no file was written.", async (signal) => {
      const backupFile = file === STDIO ? standardOutput : await createBackupFile(file, values.force ?? false);
      try {
        const log = createLog("silent", config.LOG_FORMAT);
        const summary = await withDatabase(config, log, (database) =>
          writeBackup({ database, sink: backupFile.write, secret, passphrase, signal, onProgress: progressLine.show }),
        );
        await backupFile.finish();
        progressLine.clear();
        const description = `${describeBackup(summary, summary.fileBytes)}\n${describeSecret(summary)}`;
        if (file === STDIO) console.error(description);
        else console.log(`Wrote ${file}.\n${description}`);
      } catch (error) {
        progressLine.clear();
        await backupFile.discard();
        throw error;
      }
    });
    return exitCodes.success;
  },
};

const writeToStdout: Sink = (bytes) =>
  new Promise((resolve, reject) => {
    process.stdout.write(bytes, (error) => {
      if (error)
        reject(new CommandError("Standard output was closed before the backup was complete; the backup is unusable."));
      else resolve();
    });
  });

const standardOutput: BackupFile = { write: writeToStdout, finish: async () => {}, discard: async () => {} };
