import type { Config } from "../../config.ts";
import { type Database, type Sql, withTransaction } from "../../db/client.ts";
import { createId } from "../../lib/id.ts";
import type { AuditEntry, AuditFilter } from "./model.ts";
import * as queries from "./queries.ts";

/** The number of entries per transaction that are deleted, or whose IP addresses are erased. */
const BATCH_ROWS = 10_000;

/** Writes the audit log for accounts, keys and permissions. */
export interface AuditService {
  /** Records an entry. Call it in the transaction that makes the change, so that either both are committed or neither is. */
  record(sql: Sql, entry: AuditEntry): Promise<void>;

  /**
   * Erases IP addresses and webhook hosts from a batch of entries about a user who is being deleted.
   * @returns whether there may be more.
   */
  eraseAddresses(sql: Sql, userId: string): Promise<boolean>;
}

/** Reads the audit log and deletes expired entries. */
export interface AuditLog {
  /** Lists entries, newest first. Administrators only. */
  list(filter: AuditFilter, afterId: string | null, rowsMax: number): Promise<queries.AuditRow[]>;

  /** Deletes a batch of old entries. Called by a job every few minutes. @returns how many were deleted. */
  deleteExpired(): Promise<number>;
}

export const createAuditService = (): AuditService => ({
  record: (sql, entry) => queries.insertAuditEvent(sql, createId(), entry),

  eraseAddresses: async (sql, userId) => (await queries.eraseAuditAddresses(sql, userId, BATCH_ROWS)) === BATCH_ROWS,
});

type LogDependencies = { database: Database; config: Pick<Config, "AUDIT_RETENTION_DAYS"> };

export const createAuditLog = ({ database, config }: LogDependencies): AuditLog => ({
  list: (filter, afterId, rowsMax) => queries.listAuditEvents(database, filter, afterId, rowsMax),

  deleteExpired: () =>
    withTransaction(database, (sql) => queries.deleteOldAuditEvents(sql, config.AUDIT_RETENTION_DAYS, BATCH_ROWS)),
});
