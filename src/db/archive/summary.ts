import type { ArchiveHeader, ArchiveManifest, TableSummary } from "./manifest.ts";

/** The contents of a backup. */
export type BackupSummary = {
  createdAt: string;
  parleyVersion: string;
  postgresVersion: string;
  isEncrypted: boolean;
  /** The names of the applied migrations, oldest first. */
  migrations: string[];
  jwtSecret: ArchiveHeader["jwt_secret"];
  tables: TableSummary[];
  rows: number;
  /** The size of the rows in COPY's text format. */
  dataBytes: number;
};

export function createSummary(header: ArchiveHeader, { tables }: ArchiveManifest, isEncrypted: boolean): BackupSummary {
  return {
    createdAt: header.created_at,
    parleyVersion: header.parley.version,
    postgresVersion: header.postgres_version,
    isEncrypted,
    migrations: header.migrations.map(({ name }) => name),
    jwtSecret: header.jwt_secret,
    tables,
    rows: tables.reduce((sum, { rows }) => sum + rows, 0),
    dataBytes: tables.reduce((sum, { bytes }) => sum + bytes, 0),
  };
}

export type Progress = {
  table: string;
  /** The number of rows so far in all tables. */
  rows: number;
  dataBytes: number;
  /** The estimated fraction that is done, from 0 to 1, or null if it is unknown. */
  fractionDone: number | null;
};
