import { existsSync, realpathSync, rmSync, statSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { findBackupDir } from "../config/backup.ts";
import type { Config } from "../config.ts";
import { build } from "../lib/build.ts";
import { formatBytes } from "../lib/format-bytes.ts";
import { createFetch } from "../lib/outgoing/create-fetch.ts";
import { createProxyFinder } from "../lib/outgoing/find-proxy.ts";
import { type Command, CommandError, type Environment, exitCodes, parseFileOptions, UsageError } from "./command.ts";
import { describeConfiguredDatabase, requireDatabase } from "./database-description.ts";
import { runInterruptibly } from "./interruption.ts";
import { loadConfigFrom } from "./load-config.ts";
import { createProgressLine } from "./progress.ts";
import { createBackupFolder } from "./upgrade/backup-folder.ts";
import {
  checkFormat,
  findExecutableVersion,
  listPendingMigrations,
  type ProgramOptions,
  runCommand,
} from "./upgrade/candidate.ts";
import { isChecksum } from "./upgrade/checksum.ts";
import { getPreviousPath, replaceExecutable } from "./upgrade/replace.ts";
import { describeNextSteps, SERVICE_TARGET } from "./upgrade/rollback.ts";
import { createSource, type ExecutableSource } from "./upgrade/source.ts";
import { explainFileError, requireWritable, type StagedExecutable, stageExecutable } from "./upgrade/staging.ts";

export const upgradeCommand: Command = {
  name: "upgrade",
  summary: "back up, then replace this executable with a newer one (upgrade FILE|URL)",
  help: `Usage: parley upgrade FILE|URL [--sha256 HEX] [--backup FILE] [--no-backup] [--allow-older]

Checks a new executable, makes a backup of all data, and replaces this executable. The old one is kept next to it, with the
suffix .previous. Prints how to restart and how to roll back. Use the same settings as the server. Also works while the server
is running; it is not restarted. On a machine set up by deploy/install.sh: parley-run upgrade FILE|URL

    --sha256 HEX    expected checksum, required unless it is in FILE.sha256 or SHA256SUMS next to FILE
    --backup FILE   file to back up to (default: a new file in BACKUP_DIR, or in DATA_DIR/backups)
    --no-backup     make no backup, and don't check the database
    --allow-older   accept an older version, if it knows all of the database's migrations`,

  async run(args, environment) {
    const { values, file } = parseFileOptions("upgrade", args, {
      sha256: { type: "string" },
      backup: { type: "string" },
      "no-backup": { type: "boolean" },
      "allow-older": { type: "boolean" },
    });
    if (values.sha256 !== undefined && !isChecksum(values.sha256))
      throw new UsageError("--sha256 must be 64 hexadecimal digits; `sha256sum FILE` prints them.");
    if (values.backup !== undefined && values["no-backup"])
      throw new UsageError("--backup and --no-backup are mutually exclusive; use only one.");
    const config = loadConfigFrom(environment);
    const source = createSource(file, values.sha256 !== undefined, createFetch(createProxyFinder(config)));
    const target = findTarget();
    if (!values["no-backup"]) requireDatabase(config);
    requireWritable(target);
    const summary = await runInterruptibly("The upgrade was interrupted; nothing was replaced.", (signal) =>
      upgrade({
        source,
        target,
        config,
        environment,
        sha256: values.sha256?.toLowerCase(),
        backupPath: values["no-backup"] ? null : resolve(values.backup ?? createBackupPath(config)),
        allowOlder: values["allow-older"] ?? false,
        signal,
      }),
    );
    console.log(summary);
    return exitCodes.success;
  },
};

type Options = {
  source: ExecutableSource;
  target: string;
  config: Config;
  environment: Environment;
  sha256: string | undefined;
  /** Null if no backup is made. */
  backupPath: string | null;
  allowOlder: boolean;
  signal: AbortSignal;
};

async function upgrade(options: Options): Promise<string> {
  const { source, target, config, environment, backupPath, signal } = options;
  const expectedChecksum = options.sha256 ?? (await source.findChecksum(signal));
  const stagedExecutable = await stageWithProgress(source, target, signal);
  try {
    checkChecksum(stagedExecutable, source, expectedChecksum);
    checkFormat(stagedExecutable.path, source.label);
    const { version, commit } = await findExecutableVersion(stagedExecutable.path, source.label, signal);
    const replacedVersion = `${build.version} (${build.commit})`;
    if (Bun.semver.order(version, build.version) < 0 && !options.allowOlder)
      throw new CommandError(
        `${source.label} is Parley ${version}, which is older than this one (${build.version}); use a newer one, or --allow-older.`,
      );
    signal.throwIfAborted();
    const programOptions: ProgramOptions = { environment, user: findDataOwner(config), signal };
    const pendingMigrations =
      backupPath === null
        ? null
        : await listPendingMigrations(stagedExecutable.path, programOptions, `Parley ${version}`);
    if (backupPath !== null) {
      createBackupFolder(dirname(backupPath), programOptions.user);
      await runCommand(target, ["backup", backupPath], programOptions);
    }
    const isSameExecutable = stagedExecutable.sha256 === (await hashFile(target));
    // Everything below is synchronous, so that an interruption can't leave the replacement half done.
    signal.throwIfAborted();
    replaceExecutable(stagedExecutable.path, target, {
      keepOld: !isSameExecutable || !existsSync(getPreviousPath(target)),
    });
    const isService = target === SERVICE_TARGET && existsSync("/etc/systemd/system/parley.service");
    const clusterDir = config.DATABASE_URL === undefined ? join(resolve(config.DATA_DIR), "postgres") : null;
    const steps = describeNextSteps({
      target,
      isService,
      replacedVersion,
      backupPath,
      pendingMigrations,
      clusterDir,
      database: describeConfiguredDatabase(config),
    });
    return `Upgraded ${target} from ${replacedVersion} to ${version} (${commit}).\n${steps}`;
  } catch (error) {
    throw explainFileError(error, dirname(target));
  } finally {
    rmSync(stagedExecutable.path, { force: true });
  }
}

/**
 * Returns the path of the running executable. Symbolic links are resolved, because the file itself is replaced.
 * @throws CommandError if the executable can't be replaced.
 */
function findTarget(): string {
  if (build.commit === "source")
    throw new CommandError(
      "Parley is running from source, so there is no executable to replace; use git, then `make build`.",
    );
  if (process.platform === "win32")
    throw new CommandError(
      "Windows can't replace a running executable; stop Parley, run `parley backup`, and replace the file by hand.",
    );
  try {
    return realpathSync(process.execPath);
  } catch {
    throw new CommandError(`${process.execPath} was moved or removed after this command started; run it again.`);
  }
}

function stageWithProgress(source: ExecutableSource, target: string, signal: AbortSignal): Promise<StagedExecutable> {
  const progressLine = createProgressLine();
  return stageExecutable(source, target, {
    signal,
    onProgress: (bytes, totalBytes) =>
      progressLine.print(
        `${formatBytes(bytes)}${totalBytes === null ? "" : ` of ${formatBytes(totalBytes)}`}  ${source.label}`,
      ),
  }).finally(progressLine.clear);
}

function checkChecksum({ sha256 }: StagedExecutable, { label }: ExecutableSource, expected: string | null): void {
  if (expected === null)
    throw new CommandError(
      `No checksum found for ${label}: put ${label}.sha256 or SHA256SUMS next to it or, if you trust it, pass --sha256 ${sha256}.`,
    );
  if (sha256 !== expected)
    throw new CommandError(
      `${label} is damaged or was tampered with: its SHA-256 is ${sha256}, expected ${expected}. Download it again.`,
    );
}

/** If this process runs as root, returns the owner of DATA_DIR. The backup then runs as that user, so that root creates no files there. */
function findDataOwner({ DATA_DIR }: Config): ProgramOptions["user"] {
  const status = statSync(DATA_DIR, { throwIfNoEntry: false });
  if (process.getuid?.() !== 0 || !status || status.uid === 0) return undefined;
  return { uid: status.uid, gid: status.gid };
}

function createBackupPath(config: Config): string {
  const timestamp = new Date().toISOString().replace(/\.\d+/, "").replaceAll(/[-:]/g, "");
  return join(findBackupDir(config), `parley-${build.version}-before-upgrade-${timestamp}.backup`);
}

async function hashFile(path: string): Promise<string> {
  const hash = new Bun.CryptoHasher("sha256");
  for await (const chunk of Bun.file(path).stream()) hash.update(chunk);
  return hash.digest("hex");
}
