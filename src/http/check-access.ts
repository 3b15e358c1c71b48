import { requireAdmin } from "../access/caller.ts";
import { requireScope } from "../access/scopes.ts";
import type { RoutePlugin } from "./mount.ts";

/** Lets in who may do this: a key needs the scope of the route, and some routes are for administrators. */
export const checkAccess: RoutePlugin = ({ scope, isForAdmins }) =>
  scope === undefined
    ? undefined
    : {
        onEnter({ caller }) {
          if (!caller) throw new Error("A route with a scope was entered before it was known who calls.");
          requireScope(caller.scopes, scope);
          if (isForAdmins) requireAdmin(caller);
        },
      };
