import { getPreviousPath } from "./replace.ts";

/** The path to which `deploy/install.sh` installs the executable. */
export const SERVICE_TARGET = "/usr/local/bin/parley";

export type UpgradeResult = {
  target: string;
  isService: boolean;
  /** For example `0.1.0 (0123456789ab)`. */
  replacedVersion: string;
  /** Null if no backup was made. */
  backupPath: string | null;
  /** The migrations that the new version will apply; null if the database was not checked. */
  pendingMigrations: string[] | null;
  /** The folder of the embedded database; null for a Postgres server. */
  clusterDir: string | null;
  database: string;
};

/** Describes how to switch to the new executable and how to roll back. */
export function describeNextSteps(result: UpgradeResult): string {
  const { isService, replacedVersion, backupPath, pendingMigrations, target } = result;
  const restart = isService
    ? "systemctl restart parley"
    : "stop the running `parley serve` (SIGTERM), then start it again";
  const lines = [`The running server was not restarted. To use the new version: ${restart}`];
  if (backupPath !== null) lines.push(`Backup: ${backupPath}`);
  lines.push(
    "",
    `To roll back to ${replacedVersion}:`,
    isService ? "  systemctl stop parley" : "  stop the running `parley serve`",
  );
  lines.push(`  mv ${quote(getPreviousPath(target))} ${quote(target)}`);
  lines.push(...describeRestore(result));
  lines.push(isService ? "  systemctl start parley" : "  start `parley serve` again");
  if (pendingMigrations?.length === 0) lines.push("No restore is needed: the new version has no new migrations.");
  return lines.join("\n");
}

function describeRestore({
  pendingMigrations,
  backupPath,
  clusterDir,
  database,
  isService,
  target,
}: UpgradeResult): string[] {
  if (pendingMigrations?.length === 0) return [];
  const command = isService ? "parley-run" : quote(target);
  if (backupPath === null)
    return ["  # If the new version has migrated the database: restore a pre-upgrade backup into an empty database."];
  const clearStep =
    clusterDir === null
      ? `  drop ${database} and create it again`
      : `  mv ${quote(clusterDir)} ${quote(`${clusterDir}.after-upgrade`)}`;
  return [
    clearStep,
    `  ${command} restore ${quote(backupPath)}`,
    `  # The backup doesn't contain data stored after the upgrade.`,
  ];
}

/** Quotes a string for the shell. */
function quote(text: string): string {
  return /^[\w./:@%+=-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}
