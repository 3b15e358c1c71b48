import { type BackupFile, createBackupFile, type Sink, STREAM, writeBackup } from "../db/archive.ts";
import { createLog } from "../lib/log.ts";
import { describeBackup, describeSecret } from "./backup-summary.ts";
import { type Command, CommandError, exitCodes, parseFileOptions, UsageError } from "./command.ts";
import { withInterruption } from "./interruption.ts";
import { findServerSecret } from "./jwt-secret.ts";
import { loadConfigFrom } from "./load-config.ts";
import { requireDatabase } from "./named-database.ts";
import { askPassphrase, findPassphrase } from "./passphrase.ts";
import { createProgressLine } from "./progress.ts";
import { useDatabase } from "./use-database.ts";

export const backupCommand: Command = {
  name: "backup",
  summary: "write all data to one file, while Parley serves (backup FILE)",
  help: `Usage: parley backup FILE [--encrypt] [--force]

Writes a consistent snapshot of all data to FILE: compressed, with checksums, readable by its owner only. It may be run
beside a running server. FILE has its name only when it is whole. \`-\` writes to standard output.

  --encrypt   encrypt it with a passphrase: BACKUP_PASSPHRASE (or BACKUP_PASSPHRASE_FILE), otherwise it is asked for on
              a terminal, or read from standard input. With BACKUP_PASSPHRASE set, backups are always encrypted
  --force     replace FILE if it exists

\`parley verify FILE\` proves a backup, \`parley restore FILE\` loads it into an empty database.`,

  async run(args, environment) {
    const { values, file } = parseFileOptions("backup", args, {
      encrypt: { type: "boolean" },
      force: { type: "boolean" },
    });
    if (file === STREAM && process.stdout.isTTY)
      throw new UsageError("Standard output is a terminal; name a file, or send standard output to one.");
    // Each write tells of its own error; the event, with nobody to hear it, would be printed as a stack.
    if (file === STREAM) process.stdout.on("error", () => {});
    const config = loadConfigFrom(environment);
    requireDatabase(config);
    const passphrase = findPassphrase(environment) ?? (values.encrypt ? await askPassphrase(true) : undefined);
    const secret = findServerSecret(config);
    const line = createProgressLine();
    await withInterruption("The backup was interrupted; no file was written.", async (signal) => {
      const target = file === STREAM ? standardOutput : await createBackupFile(file, values.force ?? false);
      try {
        const log = createLog("silent", config.LOG_FORMAT);
        const summary = await useDatabase(config, log, (database) =>
          writeBackup({ database, sink: target.write, secret, passphrase, signal, onProgress: line.show }),
        );
        await target.finish();
        line.end();
        const said = `${describeBackup(summary, summary.fileBytes)}\n${describeSecret(summary)}`;
        if (file === STREAM) console.error(said);
        else console.log(`${file} is written.\n${said}`);
      } catch (error) {
        line.end();
        await target.discard();
        throw error;
      }
    });
    return exitCodes.success;
  },
};

const writeOut: Sink = (bytes) =>
  new Promise((resolve, reject) => {
    process.stdout.write(bytes, (error) => {
      if (error) reject(new CommandError("Standard output was closed before the backup was whole; it is of no use."));
      else resolve();
    });
  });

const standardOutput: BackupFile = { write: writeOut, finish: async () => {}, discard: async () => {} };
