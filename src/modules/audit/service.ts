import type { Sql } from "../../db/client.ts";
import { createId } from "../../lib/id.ts";
import type { AuditEntry } from "./model.ts";
import * as queries from "./queries.ts";

/** The record of what happened to accounts, keys and rights. */
export function createAuditService() {
  return {
    /** Writes an entry down; inside the transaction of what it tells of, so that there is never one without the other. */
    record: (sql: Sql, entry: AuditEntry): Promise<void> => queries.insertAuditEvent(sql, createId(), entry),
  };
}

export type AuditService = ReturnType<typeof createAuditService>;
