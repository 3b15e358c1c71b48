import type { Sql } from "../../db/client.ts";
import type { AuditEntry } from "./model.ts";

export async function insertAuditEvent(sql: Sql, id: string, entry: AuditEntry): Promise<void> {
  const { action, actorId, credentialId, target, ipAddress, details = {} } = entry;
  await sql`
    insert into audit_events (id, action, actor_id, credential_id, target_type, target_id, ip_address, details)
    values (${id}, ${action}, ${actorId}, ${credentialId}, ${target?.type ?? null}, ${target?.id ?? null},
            ${ipAddress}, ${sql.json(details)})`;
}
