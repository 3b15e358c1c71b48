import { Type } from "@sinclair/typebox";
import { createPage, Page, readIdCursor, readPage } from "../../http/pagination.ts";
import { type Route, route } from "../../http/route.ts";
import { UuidParam } from "../../lib/schema.ts";
import { UserChange, UserCreation, UserListQuery } from "../accounts/model.ts";
import type { AccountService } from "../accounts/service.ts";
import { User } from "./model.ts";
import { mapRowToUser } from "./service.ts";

const ById = Type.Object({ id: UuidParam() });

const USERS = "/api/v1/users";
const tag = "users";

type Dependencies = { accounts: AccountService };

/** `/api/v1/users`, for administrators. */
export const createUserRoutes = ({ accounts }: Dependencies): Route[] => [
  route({
    method: "GET",
    path: USERS,
    operationId: "listUsers",
    summary: "All users, newest first; search them",
    tag,
    scope: "users:read",
    isForAdmins: true,
    expensive: "search",
    query: UserListQuery,
    ok: Page(User),
    handle: async ({ query, request, set }) => {
      const { limit, after } = readPage(query, 1);
      const q = query.q?.trim().normalize("NFC");
      const rows = await accounts.list(q === "" ? undefined : q, readIdCursor(after), limit + 1);
      return createPage(rows, limit, (row) => [row.id], mapRowToUser, { request, headers: set.headers });
    },
  }),

  route({
    method: "POST",
    path: USERS,
    operationId: "createUser",
    summary: "Create a user",
    tag,
    scope: "users:write",
    isForAdmins: true,
    body: UserCreation,
    ok: User,
    status: 201,
    answerHeaders: ["Location"],
    problems: [409],
    handle: async ({ caller, body, set }) => {
      const user = await accounts.create(caller, body);
      set.headers.location = `${USERS}/${user.id}`;
      return user;
    },
  }),

  route({
    method: "GET",
    path: `${USERS}/:id`,
    operationId: "getUser",
    summary: "Read a user",
    tag,
    scope: "users:read",
    isForAdmins: true,
    params: ById,
    ok: User,
    handle: ({ params }) => accounts.get(params.id),
  }),

  route({
    method: "PATCH",
    path: `${USERS}/:id`,
    operationId: "changeUser",
    summary: "Change a user's role, name, address or password; disable a user",
    description:
      "One administrator who is not disabled always stays. A password ends all sessions of the user, and their API keys go on working. Your own password and address need a login younger than 5 minutes.",
    tag,
    scope: "users:write",
    isForAdmins: true,
    params: ById,
    body: UserChange,
    ok: User,
    problems: [409],
    handle: ({ caller, params, body }) => accounts.change(caller, params.id, body),
  }),

  route({
    method: "DELETE",
    path: `${USERS}/:id`,
    operationId: "deleteUser",
    summary: "Delete a user",
    description:
      "Everything personal is deleted, and conversations that nobody else is in. Messages in others stay, without an author. One administrator always stays.",
    tag,
    scope: "users:write",
    isForAdmins: true,
    params: ById,
    problems: [409],
    handle: ({ caller, params }) => accounts.remove(caller, params.id),
  }),

  route({
    method: "DELETE",
    path: `${USERS}/:id/sessions`,
    operationId: "endUserSessions",
    summary: "End all sessions of a user",
    tag,
    scope: "users:write",
    isForAdmins: true,
    params: ById,
    handle: ({ caller, params }) => accounts.endSessions(caller, params.id),
  }),
];
