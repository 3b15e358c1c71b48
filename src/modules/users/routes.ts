import { type Route, route } from "../../http/route.ts";
import { Preferences, ProfileChange, User } from "./model.ts";
import type { UserService } from "./service.ts";

const ME = "/api/v1/me";
const tag = "me";

type Dependencies = { users: UserService };

/** The caller's own profile. Password and sessions belong to the auth module, the end of the account to accounts. */
export const createUserRoutes = ({ users }: Dependencies): Route[] => [
  route({
    method: "GET",
    path: ME,
    operationId: "getMe",
    summary: "Who I am",
    tag,
    scope: "any",
    ok: User,
    handle: ({ caller }) => users.getUser(caller.user.id),
  }),

  route({
    method: "PATCH",
    path: ME,
    operationId: "updateMe",
    summary: "Change my name or address",
    tag,
    scope: "users:write",
    body: ProfileChange,
    ok: User,
    problems: [409],
    handle: ({ caller, body }) => users.changeProfile(caller, body),
  }),

  route({
    method: "GET",
    path: `${ME}/preferences`,
    operationId: "getMyPreferences",
    summary: "My preferences",
    tag,
    scope: "users:read",
    ok: Preferences,
    handle: ({ caller }) => users.getPreferences(caller.user.id),
  }),

  route({
    method: "PUT",
    path: `${ME}/preferences`,
    operationId: "replaceMyPreferences",
    summary: "Replace my preferences",
    tag,
    scope: "users:write",
    body: Preferences,
    ok: Preferences,
    handle: ({ caller, body }) => users.replacePreferences(caller.user.id, body),
  }),
];
