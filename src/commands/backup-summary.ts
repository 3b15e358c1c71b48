import type { BackupSummary } from "../db/archive.ts";
import { formatBytes } from "../lib/format-bytes.ts";
import { formatCount } from "./progress.ts";

/** Describes the contents of a backup for the terminal. */
export function describeBackup(summary: BackupSummary, fileBytes: number | null): string {
  const filledTables = summary.tables.filter(({ rows }) => rows > 0);
  const nameWidth = Math.max(...filledTables.map(({ name }) => name.length), 0);
  const rowsWidth = Math.max(...filledTables.map(({ rows }) => formatCount(rows).length), 0);
  const sizeNote = fileBytes === null ? "" : `, file size ${formatBytes(fileBytes)}`;
  return [
    `created      ${summary.createdAt}`,
    `by           Parley ${summary.parleyVersion} on PostgreSQL ${summary.postgresVersion}`,
    `schema       ${summary.migrations.at(-1)} (${summary.migrations.length} migrations)`,
    `encrypted    ${summary.isEncrypted ? "yes (age, with a passphrase)" : "no"}`,
    `contents     ${formatCount(summary.rows)} rows in ${filledTables.length} tables, ${formatBytes(summary.dataBytes)}${sizeNote}`,
    ...filledTables.map(
      ({ name, rows, checksum }) =>
        `  ${name.padEnd(nameWidth)}  ${formatCount(rows).padStart(rowsWidth)}  ${checksum}`,
    ),
  ].join("\n");
}

/** Describes whether the JWT secret is in the backup, and what the operator must store separately. */
export function describeSecret({ jwtSecret, isEncrypted }: BackupSummary): string {
  switch (jwtSecret.state) {
    case "included":
      return isEncrypted
        ? "The JWT secret from DATA_DIR is in the backup."
        : "The JWT secret from DATA_DIR is in the backup, which is not encrypted: store it where only you can read it.";
    case "configured":
      return "JWT_SECRET is not in the backup: store it separately. Without it, sessions end and webhook secrets can't be read.";
    case "unknown":
      return "The JWT secret was not found, so it is not in the backup: also store JWT_SECRET, or the file jwt-secret in DATA_DIR.";
  }
}
