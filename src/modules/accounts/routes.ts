import { Type } from "@sinclair/typebox";
import { Elysia } from "elysia";
import { requireAdmin } from "../../access/caller.ts";
import type { Authenticate } from "../../http/authenticate.ts";
import { describe } from "../../http/openapi.ts";
import { createPage, Page, readPage } from "../../http/pagination.ts";
import type { Log } from "../../lib/log.ts";
import { Problem } from "../../lib/problem.ts";
import { isUuid, UuidParam } from "../../lib/schema.ts";
import { User } from "../users/model.ts";
import { mapRowToUser } from "../users/service.ts";
import { createOwnRoutes } from "./me-routes.ts";
import { UserChange, UserCreation, UserListQuery } from "./model.ts";
import type { AccountService } from "./service.ts";

const ById = Type.Object({ id: UuidParam() });

type Dependencies = { accounts: AccountService; authenticate: Authenticate; log: Log };

/** `/api/v1/users` for administrators, and what of `/api/v1/me` concerns the account as a whole. */
export function createAccountRoutes(deps: Dependencies) {
  return new Elysia({ name: "accounts", prefix: "/api/v1" }).use(createAdminRoutes(deps)).use(createOwnRoutes(deps));
}

function createAdminRoutes({ accounts, authenticate }: Dependencies) {
  return new Elysia({ name: "accounts-users", prefix: "/users" })
    .use(authenticate)
    .onBeforeHandle(({ caller }) => requireAdmin(caller))
    .get(
      "",
      async ({ query, request, set }) => {
        const { limit, after } = readPage(query, 1);
        const [afterId = null] = after ?? [];
        if (afterId !== null && !isUuid(afterId))
          throw new Problem("bad_cursor", "The cursor is not one that this list gave out.");
        const q = query.q?.trim().normalize("NFC");
        const rows = await accounts.list(q === "" ? undefined : q, afterId, limit + 1);
        return createPage(rows, limit, (row) => [row.id], mapRowToUser, { request, headers: set.headers });
      },
      {
        query: UserListQuery,
        ...describe({
          operationId: "listUsers",
          scope: "users:read",
          summary: "All users, newest first; search them",
          tag: "users",
          ok: Page(User),
          problems: [400],
        }),
      },
    )
    .post(
      "",
      async ({ caller, body, set }) => {
        const user = await accounts.create(caller, body);
        set.status = 201;
        set.headers.location = `/api/v1/users/${user.id}`;
        return user;
      },
      {
        body: UserCreation,
        ...describe({
          operationId: "createUser",
          scope: "users:write",
          summary: "Create a user",
          tag: "users",
          ok: User,
          status: 201,
          problems: [409],
        }),
      },
    )
    .get("/:id", ({ params }) => accounts.get(params.id), {
      params: ById,
      ...describe({ operationId: "getUser", scope: "users:read", summary: "Read a user", tag: "users", ok: User }),
    })
    .patch("/:id", ({ caller, params, body }) => accounts.change(caller, params.id, body), {
      params: ById,
      body: UserChange,
      ...describe({
        operationId: "changeUser",
        scope: "users:write",
        summary: "Change a user's role or name; disable a user",
        description: "One administrator who is not disabled always stays.",
        tag: "users",
        ok: User,
        problems: [409],
      }),
    })
    .delete(
      "/:id",
      async ({ caller, params, set }) => {
        await accounts.remove(caller, params.id);
        set.status = 204;
      },
      {
        params: ById,
        ...describe({
          operationId: "deleteUser",
          scope: "users:write",
          summary: "Delete a user",
          description:
            "Everything personal is deleted, and conversations that nobody else is in. Messages in others stay, without an author. One administrator always stays.",
          tag: "users",
          problems: [409],
        }),
      },
    )
    .delete(
      "/:id/sessions",
      async ({ caller, params, set }) => {
        await accounts.endSessions(caller, params.id);
        set.status = 204;
      },
      {
        params: ById,
        ...describe({
          operationId: "endUserSessions",
          scope: "users:write",
          summary: "End all sessions of a user",
          tag: "users",
        }),
      },
    );
}
