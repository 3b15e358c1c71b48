import { requireAdmin } from "../access/caller.ts";
import { requireScope } from "../access/scopes.ts";
import type { RoutePlugin } from "./mount.ts";

/** Checks that an API key has the route's scope, and that the caller is an administrator if the route requires it. */
export const checkAccess: RoutePlugin = ({ scope, isForAdmins }) =>
  scope === undefined
    ? undefined
    : {
        onEnter({ caller }) {
          if (!caller) throw new Error("A route with a scope was entered before the caller was authenticated.");
          requireScope(caller.scopes, scope);
          if (isForAdmins) requireAdmin(caller);
        },
      };
