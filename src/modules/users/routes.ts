import { Elysia } from "elysia";
import type { Authenticate } from "../../http/authenticate.ts";
import { describe } from "../../http/openapi.ts";
import { Preferences, ProfileChange, User } from "./model.ts";
import type { UserService } from "./service.ts";

type UserRoutesDependencies = { users: UserService; authenticate: Authenticate };

/** The caller's own profile. Password and sessions belong to the auth module, the end of the account to accounts. */
export function createUserRoutes({ users, authenticate }: UserRoutesDependencies) {
  return new Elysia({ name: "users", prefix: "/api/v1/me" })
    .use(authenticate)
    .get(
      "",
      ({ caller }) => users.getUser(caller.user.id),
      describe({ operationId: "getMe", scope: "any", summary: "Who I am", tag: "me", ok: User }),
    )
    .patch("", ({ caller, body }) => users.changeProfile(caller, body), {
      body: ProfileChange,
      ...describe({
        operationId: "updateMe",
        scope: "users:write",
        summary: "Change my name or address",
        tag: "me",
        ok: User,
        problems: [409],
      }),
    })
    .get("/preferences", ({ caller }) => users.getPreferences(caller.user.id), {
      ...describe({
        operationId: "getMyPreferences",
        scope: "users:read",
        summary: "My preferences",
        tag: "me",
        ok: Preferences,
      }),
    })
    .put("/preferences", ({ caller, body }) => users.replacePreferences(caller.user.id, body), {
      body: Preferences,
      ...describe({
        operationId: "replaceMyPreferences",
        scope: "users:write",
        summary: "Replace my preferences",
        tag: "me",
        ok: Preferences,
      }),
    });
}
