import type { FindScope } from "./authenticate.ts";
import { SCOPE_FIELD } from "./openapi.ts";
import type { RouteForDocument } from "./openapi-document.ts";
import type { NeededScope } from "./scopes.ts";

/** Reads what each route declares in its documentation, so that the document and what is enforced cannot differ. */
export function createFindScope(listRoutes: () => readonly RouteForDocument[]): FindScope {
  let byRoute: Map<string, NeededScope> | undefined;
  return (method, route) => {
    byRoute ??= new Map(
      listRoutes().flatMap(({ method, path, detail }) => {
        const scope = (detail as Record<string, NeededScope> | undefined)?.[SCOPE_FIELD];
        return scope === undefined ? [] : [[`${method} ${path}`, scope]];
      }),
    );
    // A HEAD is answered by the route of its GET.
    return byRoute.get(`${method === "HEAD" ? "GET" : method} ${route}`);
  };
}
