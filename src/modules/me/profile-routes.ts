import { type Route, route } from "../../http/route.ts";
import { Preferences, ProfileChange, User } from "../users/model.ts";
import type { UserService } from "../users/service.ts";

const ME = "/api/v1/me";
const tag = "me";

/** `/api/v1/me`: the caller's own profile. */
export const createProfileRoutes = ({ users }: { users: UserService }): Route[] => [
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
    takesLargeBody: true,
    body: Preferences,
    ok: Preferences,
    handle: ({ caller, body }) => users.replacePreferences(caller.user.id, body),
  }),
];
