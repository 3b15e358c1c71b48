import { Type } from "@sinclair/typebox";
import { createPage, Page, PageQuery, parseIdCursor, parsePageQuery } from "../../http/pagination.ts";
import { type Route, route } from "../../http/route.ts";
import { OneOf, Uuid } from "../../lib/schema.ts";
import { PasswordChange, PasswordChanged, Session } from "../auth/model.ts";
import type { AuthService, SessionRow } from "../auth/service.ts";

const SESSIONS = "/api/v1/me/sessions";
const tag = "me";

/** Creates the routes for the caller's password and sessions. */
export const createSessionRoutes = ({ auth }: { auth: AuthService }): Route[] => [
  route({
    method: "POST",
    path: "/api/v1/me/password",
    operationId: "changeMyPassword",
    summary: "Change my password and end my other sessions",
    tag,
    scope: "session",
    description:
      "API keys keep working unless `revoke_api_keys` is true. The response contains the number of API keys. Rate-limited like a login.",
    body: PasswordChange,
    ok: PasswordChanged,
    problems: [409],
    handle: ({ caller, body }) => auth.changePassword(caller, body),
  }),

  route({
    method: "GET",
    path: SESSIONS,
    operationId: "listMySessions",
    summary: "List my sessions",
    tag,
    scope: "session",
    query: Type.Object(PageQuery),
    ok: Page(Session),
    handle: async ({ caller, query, request, set }) => {
      const { limit, after } = parsePageQuery(query, 1);
      const rows = await auth.listSessions(caller, limit + 1, parseIdCursor(after));
      const mapRow = (row: SessionRow) => mapRowToSession(row, caller.credentialId);
      return createPage(rows, limit, (row) => [row.id], mapRow, { request, headers: set.headers });
    },
  }),

  route({
    method: "DELETE",
    path: SESSIONS,
    operationId: "endMySessions",
    summary: "End all my other sessions",
    tag,
    scope: "session",
    query: Type.Object({
      all: Type.Optional(OneOf(["true", "false"], { description: "`true` also ends the session of this request." })),
    }),
    handle: ({ caller, query }) =>
      auth.endSessions(caller, caller.user.id, query.all === "true" ? undefined : caller.credentialId),
  }),

  route({
    method: "DELETE",
    path: `${SESSIONS}/:id`,
    operationId: "endMySession",
    summary: "End one of my sessions",
    tag,
    scope: "session",
    params: Type.Object({ id: Uuid() }),
    handle: ({ caller, params }) => auth.endSession(caller, params.id),
  }),
];

function mapRowToSession(row: SessionRow, currentId: string): Session {
  return {
    id: row.id,
    current: row.id === currentId,
    user_agent: row.user_agent,
    ip_address: row.ip_address,
    created_at: row.created_at.toISOString(),
    last_used_at: row.last_used_at.toISOString(),
    expires_at: row.expires_at.toISOString(),
  };
}
