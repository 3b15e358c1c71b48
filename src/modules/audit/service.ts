import { type Database, type Sql, withTransaction } from "../../db/client.ts";
import { createId } from "../../lib/id.ts";
import type { AuditEntry, AuditFilter } from "./model.ts";
import * as queries from "./queries.ts";

/** Entries that one transaction takes away, or takes addresses out of. */
const SWEPT_ROWS = 10_000;

/** The record of what happened to accounts, keys and rights. */
export function createAuditService() {
  return {
    /** Writes an entry down; inside the transaction of what it tells of, so that there is never one without the other. */
    record: (sql: Sql, entry: AuditEntry): Promise<void> => queries.insertAuditEvent(sql, createId(), entry),

    /** For a user who is being deleted: entries about them keep ids only. Bounded. @returns whether there may be more. */
    eraseAddresses: async (sql: Sql, userId: string): Promise<boolean> =>
      (await queries.eraseAuditAddresses(sql, userId, SWEPT_ROWS)) === SWEPT_ROWS,
  };
}

export type AuditService = ReturnType<typeof createAuditService>;

/** Reading the record, and its end. */
export function createAuditLog({ database, retentionDays }: { database: Database; retentionDays: number }) {
  return {
    /** For administrators: newest first. `after` is [id]. */
    list: (filter: AuditFilter, afterId: string | null, rows: number): Promise<queries.AuditRow[]> =>
      queries.listAuditEvents(database, filter, afterId, rows),

    /** Takes away what is older than the retention. One round is bounded; run it every few minutes. @returns how many. */
    sweep: (): Promise<number> =>
      withTransaction(database, (sql) => queries.deleteOldAuditEvents(sql, retentionDays, SWEPT_ROWS)),
  };
}

export type AuditLog = ReturnType<typeof createAuditLog>;
