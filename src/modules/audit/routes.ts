import { Elysia } from "elysia";
import { requireAdmin } from "../../access/caller.ts";
import type { Authenticate } from "../../http/authenticate.ts";
import { describe } from "../../http/openapi.ts";
import { createPage, Page, readPage } from "../../http/pagination.ts";
import { Problem } from "../../lib/problem.ts";
import { isUuid } from "../../lib/schema.ts";
import { AuditEvent, AuditQuery } from "./model.ts";
import type { AuditRow } from "./queries.ts";
import type { AuditLog } from "./service.ts";

type Dependencies = { auditLog: AuditLog; authenticate: Authenticate };

/** `/api/v1/audit`: the record of what happened to accounts, keys and rights. */
export function createAuditRoutes({ auditLog, authenticate }: Dependencies) {
  return new Elysia({ name: "audit", prefix: "/api/v1/audit" }).use(authenticate).get(
    "",
    async ({ caller, query, request, set }) => {
      requireAdmin(caller);
      const { limit, after } = readPage(query, 1);
      const [afterId = null] = after ?? [];
      if (afterId !== null && !isUuid(afterId))
        throw new Problem("bad_cursor", "The cursor is not one that this list gave out.");
      const filter = {
        action: query.action,
        actorId: query.actor_id,
        targetId: query.target_id,
        from: readTime(query.from, "from"),
        to: readTime(query.to, "to"),
      };
      const rows = await auditLog.list(filter, afterId, limit + 1);
      set.headers["cache-control"] = "no-store";
      return createPage(rows, limit, (row) => [row.id], mapRowToEvent, { request, headers: set.headers });
    },
    {
      query: AuditQuery,
      ...describe({
        operationId: "listAuditEvents",
        scope: "admin",
        summary: "What happened to accounts, keys and rights, newest first (administrators)",
        description: "Entries cannot be changed. They are kept for `AUDIT_RETENTION_DAYS`.",
        tag: "audit",
        ok: Page(AuditEvent),
        problems: [400, 403],
      }),
    },
  );
}

/** Years that Postgres and JavaScript both know. */
const timeForm = /^(?!0000)\d{4}-/;

function readTime(text: string | undefined, name: string): Date | undefined {
  if (text === undefined) return undefined;
  const time = new Date(text);
  if (timeForm.test(text) && !Number.isNaN(time.getTime()) && timeForm.test(time.toISOString())) return time;
  const detail = "Not a time as in RFC 3339.";
  throw new Problem("invalid", `#/${name}: ${detail}`, { errors: [{ pointer: `#/${name}`, detail }] });
}

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
