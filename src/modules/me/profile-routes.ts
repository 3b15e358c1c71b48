import { type Route, route } from "../../http/route.ts";
import type { AuthService } from "../auth/service.ts";
import { Preferences, ProfileChange, User } from "../users/model.ts";
import type { UserService } from "../users/service.ts";

const ME = "/api/v1/me";
const tag = "me";

type Dependencies = { users: UserService; auth: Pick<AuthService, "reauthenticateForNewEmail"> };

/** Creates the routes for the caller's profile and preferences. */
export const createProfileRoutes = ({ users, auth }: Dependencies): Route[] => [
  route({
    method: "GET",
    path: ME,
    operationId: "getMe",
    summary: "Get my profile",
    tag,
    scope: "any",
    ok: User,
    handle: ({ caller }) => users.getUser(caller.user.id),
  }),

  route({
    method: "PATCH",
    path: ME,
    operationId: "updateMe",
    summary: "Change my name or email",
    tag,
    scope: "users:write",
    description:
      "Changing the email requires `current_password`, or a login within the last 5 minutes. API keys can't change it. With `REGISTRATION_PRIVACY=on`, only an administrator can change it.",
    body: ProfileChange,
    ok: User,
    problems: [409],
    handle: async ({ caller, body }) => {
      const { current_password, ...change } = body;
      if (change.email === caller.user.email) delete change.email;
      if (change.email === undefined) return users.changeProfile(caller, change, undefined);
      return users.changeProfile(caller, change, await auth.reauthenticateForNewEmail(caller, current_password));
    },
  }),

  route({
    method: "GET",
    path: `${ME}/preferences`,
    operationId: "getMyPreferences",
    summary: "Get my preferences",
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
    acceptsLargeBody: true,
    body: Preferences,
    ok: Preferences,
    handle: ({ caller, body }) => users.replacePreferences(caller.user.id, body),
  }),
];
