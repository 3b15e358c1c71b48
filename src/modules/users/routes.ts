import { Type } from "@sinclair/typebox";
import { createPage, Page, parseIdCursor, parsePageQuery } from "../../http/pagination.ts";
import { type Route, route } from "../../http/route.ts";
import { UuidParam } from "../../lib/schema.ts";
import { UserChange, UserCreation, UserListQuery } from "../accounts/model.ts";
import type { AccountService } from "../accounts/service.ts";
import { User } from "./model.ts";
import { mapRowToUser } from "./service.ts";

const UserParams = Type.Object({ id: UuidParam() });

const USERS = "/api/v1/users";
const tag = "users";

type Dependencies = { accounts: AccountService };

/** Creates the routes of `/api/v1/users`, for administrators. */
export const createUserRoutes = ({ accounts }: Dependencies): Route[] => [
  route({
    method: "GET",
    path: USERS,
    operationId: "listUsers",
    summary: "List or search users, newest first",
    tag,
    scope: "users:read",
    isForAdmins: true,
    expensive: "search",
    query: UserListQuery,
    ok: Page(User),
    handle: async ({ query, request, set }) => {
      const { limit, after } = parsePageQuery(query, 1);
      const searchText = query.q?.trim().normalize("NFC");
      const rows = await accounts.list(searchText === "" ? undefined : searchText, parseIdCursor(after), limit + 1);
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
    responseHeaders: ["Location"],
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
    summary: "Get a user",
    tag,
    scope: "users:read",
    isForAdmins: true,
    params: UserParams,
    ok: User,
    handle: ({ params }) => accounts.get(params.id),
  }),

  route({
    method: "PATCH",
    path: `${USERS}/:id`,
    operationId: "changeUser",
    summary: "Change a user's role, name, email or password; disable or enable a user",
    description:
      "At least one enabled administrator must remain. Setting a password ends all of the user's sessions; their API keys keep working. Changing your own password or email requires a login within the last 5 minutes.",
    tag,
    scope: "users:write",
    isForAdmins: true,
    params: UserParams,
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
      "Deletes all their personal data, and conversations without other members. Their messages in other conversations stay, without an author. At least one administrator must remain.",
    tag,
    scope: "users:write",
    isForAdmins: true,
    params: UserParams,
    problems: [409],
    handle: ({ caller, params }) => accounts.remove(caller, params.id),
  }),

  route({
    method: "DELETE",
    path: `${USERS}/:id/sessions`,
    operationId: "endUserSessions",
    summary: "End all of a user's sessions",
    tag,
    scope: "users:write",
    isForAdmins: true,
    params: UserParams,
    handle: ({ caller, params }) => accounts.endSessions(caller, params.id),
  }),
];
