import { Type } from "@sinclair/typebox";
import { Elysia } from "elysia";
import type { Authenticate } from "../../http/authenticate.ts";
import { describe } from "../../http/openapi.ts";
import { readRequestId } from "../../http/request-id.ts";
import type { Log } from "../../lib/log.ts";
import { streamText } from "./export.ts";
import { Preferences, ProfileChange, User } from "./model.ts";
import type { UserService } from "./service.ts";

type UserRoutesDependencies = { users: UserService; authenticate: Authenticate; log: Log };

/** The caller's own profile. Password, sessions and the end of the account belong to the auth module. */
export function createUserRoutes({ users, authenticate, log }: UserRoutesDependencies) {
  return new Elysia({ name: "users", prefix: "/api/v1/me" })
    .use(authenticate)
    .get(
      "",
      ({ caller }) => users.getUser(caller.user.id),
      describe({ operationId: "getMe", scope: "any", summary: "Who I am", tag: "me", ok: User }),
    )
    .patch("", ({ caller, body }) => users.changeProfile(caller.user.id, body), {
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
    })
    .get(
      "/export",
      async ({ caller, set }) => {
        const pieces = await users.exportUser(caller.user.id);
        const onFault = (err: unknown) => log.error({ request_id: readRequestId(set), err }, "an export broke off");
        return new Response(streamText(pieces, onFault), {
          headers: {
            "content-type": "application/json",
            "content-disposition": 'attachment; filename="parley-export.json"',
            "cache-control": "no-store",
          },
        });
      },
      describe({
        operationId: "exportMe",
        scope: "session",
        summary: "All that is stored of me",
        description: "User, preferences, sessions, memberships, own messages and feedback as one streamed document.",
        tag: "me",
        ok: Type.Object({}, { additionalProperties: true }),
      }),
    );
}
