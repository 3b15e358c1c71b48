import { Type } from "@sinclair/typebox";
import { Elysia } from "elysia";
import type { Authenticate } from "../../http/authenticate.ts";
import type { ReadClientAddress } from "../../http/client-address.ts";
import { describe } from "../../http/openapi.ts";
import { createPage, Page, PageQuery, readPage } from "../../http/pagination.ts";
import type { RateLimit } from "../../http/rate-limit.ts";
import { Problem } from "../../lib/problem.ts";
import { isUuid, OneOf, Uuid } from "../../lib/schema.ts";
import { Login, PasswordChange, Refresh, Registration, Session, Ticket, Tokens } from "./model.ts";
import { createIssuerRoutes } from "./oidc/routes.ts";
import type { SessionRow } from "./queries.ts";
import type { AuthService } from "./service.ts";

type AuthRoutesDependencies = {
  auth: AuthService;
  authenticate: Authenticate;
  readClientAddress: ReadClientAddress;
  /** Counts what is asked before anybody is known, by the client's address. */
  limitRoute: RateLimit["ofRoute"];
};
type ClientContext = { request: Request; server: Parameters<ReadClientAddress>[1] };

/** Registration, login and tokens; and what of `/me` touches the password or a session. */
export function createAuthRoutes(deps: AuthRoutesDependencies) {
  return new Elysia({ name: "auth", prefix: "/api/v1" })
    .use(createTokenRoutes(deps))
    .use(createSessionRoutes(deps))
    .use(createIssuerRoutes(deps));
}

function createTokenRoutes({ auth, authenticate, readClientAddress, limitRoute }: AuthRoutesDependencies) {
  const readClient = ({ request, server }: ClientContext) => ({
    userAgent: request.headers.get("user-agent"),
    ipAddress: readClientAddress(request, server),
  });
  return new Elysia({ name: "auth-tokens", prefix: "/auth" })
    .use(limitRoute)
    .onBeforeHandle(({ set }) => {
      set.headers["cache-control"] = "no-store";
    })
    .post(
      "/register",
      ({ body, request, server, set }) => {
        set.status = 201;
        return auth.register(body, readClient({ request, server }));
      },
      {
        body: Registration,
        ...describe({
          operationId: "register",
          limit: "auth",
          summary: "Create an account and log in",
          tag: "auth",
          ok: Tokens,
          status: 201,
          public: true,
          problems: [403, 409],
        }),
      },
    )
    .post("/login", ({ body, request, server }) => auth.login(body, readClient({ request, server })), {
      body: Login,
      ...describe({
        operationId: "login",
        limit: "auth",
        summary: "Log in",
        tag: "auth",
        ok: Tokens,
        public: true,
        problems: [401, 403],
      }),
    })
    .post(
      "/refresh",
      ({ body, request, server }) => auth.refresh(body.refresh_token, readClientAddress(request, server)),
      {
        body: Refresh,
        ...describe({
          operationId: "refreshTokens",
          limit: "renew",
          summary: "Get new tokens for a refresh token",
          description: "Each refresh token is good once; use the new one from then on. A spent one ends the session.",
          tag: "auth",
          ok: Tokens,
          public: true,
          problems: [401],
        }),
      },
    )
    .post(
      "/logout",
      async ({ body, request, server, set }) => {
        await auth.logout(body.refresh_token, readClientAddress(request, server));
        set.status = 204;
      },
      {
        body: Refresh,
        ...describe({
          operationId: "logout",
          limit: "renew",
          summary: "End the session of a refresh token",
          tag: "auth",
          public: true,
        }),
      },
    )
    .use(authenticate)
    .post(
      "/ticket",
      ({ caller }) => auth.createTicket(caller),
      describe({
        operationId: "createTicket",
        limit: "renew",
        scope: "any",
        summary: "A ticket for one WebSocket of a browser",
        idempotencyKey: "ignored",
        tag: "auth",
        ok: Ticket,
      }),
    );
}

function createSessionRoutes({ auth, authenticate }: AuthRoutesDependencies) {
  return new Elysia({ name: "auth-sessions", prefix: "/me" })
    .use(authenticate)
    .post(
      "/password",
      async ({ caller, body, set }) => {
        await auth.changePassword(caller, body.current_password, body.new_password);
        set.status = 204;
      },
      {
        body: PasswordChange,
        ...describe({
          operationId: "changeMyPassword",
          scope: "session",
          summary: "Change my password and end my other sessions",
          tag: "me",
          problems: [403, 409],
        }),
      },
    )
    .get(
      "/sessions",
      async ({ caller, query, request, set }) => {
        const { limit, after } = readPage(query, 1);
        const [beforeId = null] = after ?? [];
        if (beforeId !== null && !isUuid(beforeId))
          throw new Problem("bad_cursor", "The cursor is not one that this list gave out.");
        const rows = await auth.listSessions(caller, limit + 1, beforeId);
        const mapRow = (row: SessionRow) => mapRowToSession(row, caller.credentialId);
        return createPage(rows, limit, (row) => [row.id], mapRow, { request, headers: set.headers });
      },
      {
        query: Type.Object(PageQuery),
        ...describe({
          operationId: "listMySessions",
          scope: "session",
          summary: "Where I am logged in",
          tag: "me",
          ok: Page(Session),
          problems: [400],
        }),
      },
    )
    .delete(
      "/sessions",
      async ({ caller, query, set }) => {
        await auth.endSessions(caller, caller.user.id, query.all === "true" ? undefined : caller.credentialId);
        set.status = 204;
      },
      {
        query: Type.Object({
          all: Type.Optional(OneOf(["true", "false"], { description: "`true` ends the one of this request as well." })),
        }),
        ...describe({
          operationId: "endMySessions",
          scope: "session",
          summary: "End all my other sessions",
          tag: "me",
        }),
      },
    )
    .delete(
      "/sessions/:id",
      async ({ caller, params, set }) => {
        await auth.endSession(caller, params.id);
        set.status = 204;
      },
      {
        params: Type.Object({ id: Uuid() }),
        ...describe({ operationId: "endMySession", scope: "session", summary: "End one of my sessions", tag: "me" }),
      },
    );
}

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
