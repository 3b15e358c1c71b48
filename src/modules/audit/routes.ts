import { createPage, Page, parseIdCursor, parsePageQuery } from "../../http/pagination.ts";
import { type Route, route } from "../../http/route.ts";
import { parseTimeFilter } from "../../http/time-filter.ts";
import { AuditEvent, AuditQuery } from "./model.ts";
import type { AuditRow } from "./queries.ts";
import type { AuditLog } from "./service.ts";

type Dependencies = { auditLog: AuditLog };

/** Creates the routes of `/api/v1/audit`: the audit log for accounts, keys and permissions. */
export const createAuditRoutes = ({ auditLog }: Dependencies): Route[] => [
  route({
    method: "GET",
    path: "/api/v1/audit",
    operationId: "listAuditEvents",
    summary: "List the audit log of accounts, keys and permissions, newest first (administrators)",
    description: "Entries can't be changed. They are kept for `AUDIT_RETENTION_DAYS`.",
    tag: "audit",
    scope: "admin",
    isForAdmins: true,
    query: AuditQuery,
    ok: Page(AuditEvent),
    handle: async ({ query, request, set }) => {
      const { limit, after } = parsePageQuery(query, 1);
      const filter = {
        action: query.action,
        actorId: query.actor_id,
        targetId: query.target_id,
        from: parseTimeFilter(query.from, "from"),
        to: parseTimeFilter(query.to, "to"),
      };
      const rows = await auditLog.list(filter, parseIdCursor(after), limit + 1);
      return createPage(rows, limit, (row) => [row.id], mapRowToEvent, { request, headers: set.headers });
    },
  }),
];

function mapRowToEvent(row: AuditRow): AuditEvent {
  return {
    id: row.id,
    action: row.action as AuditEvent["action"],
    actor_id: row.actor_id,
    credential_id: row.credential_id,
    target: row.target_type && row.target_id ? { type: row.target_type, id: row.target_id } : null,
    ip_address: row.ip_address,
    details: row.details,
    at: row.at.toISOString(),
  };
}
