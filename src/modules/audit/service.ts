import type { Config } from "../../config.ts";
import { type Database, type Sql, withTransaction } from "../../db/client.ts";
import { createId } from "../../lib/id.ts";
import type { AuditEntry, AuditFilter } from "./model.ts";
import * as queries from "./queries.ts";

/** Entries that one transaction deletes, or takes addresses out of. */
const SWEPT_ROWS = 10_000;

/** Writes the record of what happened to accounts, keys and rights. */
export interface AuditService {
  /** Inside the transaction of what the entry tells of, so that there is never one without the other. */
  record(sql: Sql, entry: AuditEntry): Promise<void>;

  /** For a user who is being deleted: entries about them keep ids only. Bounded. @returns whether there may be more. */
  eraseAddresses(sql: Sql, userId: string): Promise<boolean>;
}

/** Reads the record, and deletes what is older than the retention. */
export interface AuditLog {
  /** For administrators: newest first. */
  list(filter: AuditFilter, afterId: string | null, rows: number): Promise<queries.AuditRow[]>;

  /** For the job runner. One round is bounded; run it every few minutes. @returns how many entries it has deleted. */
  sweep(): Promise<number>;
}

export const createAuditService = (): AuditService => ({
  record: (sql, entry) => queries.insertAuditEvent(sql, createId(), entry),

  eraseAddresses: async (sql, userId) => (await queries.eraseAuditAddresses(sql, userId, SWEPT_ROWS)) === SWEPT_ROWS,
});

type LogDependencies = { database: Database; config: Pick<Config, "AUDIT_RETENTION_DAYS"> };

export const createAuditLog = ({ database, config }: LogDependencies): AuditLog => ({
  list: (filter, afterId, rows) => queries.listAuditEvents(database, filter, afterId, rows),

  sweep: () =>
    withTransaction(database, (sql) => queries.deleteOldAuditEvents(sql, config.AUDIT_RETENTION_DAYS, SWEPT_ROWS)),
});
