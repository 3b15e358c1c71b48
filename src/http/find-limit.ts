import type { RouteClass } from "../limits/limits.ts";
import { LIMIT_FIELD } from "./openapi.ts";
import { createRouteIndex, type DeclaredRoute } from "./route-index.ts";

/** What a request to a route counts as. */
export type FindLimit = (method: string, route: string) => RouteClass;

/** What routes declare; where they declare nothing, reading is `read` and the rest `write`. */
export function createFindLimit(listRoutes: () => readonly DeclaredRoute[]): FindLimit {
  const find = createRouteIndex(
    listRoutes,
    ({ detail }) => (detail as { [LIMIT_FIELD]?: RouteClass } | undefined)?.[LIMIT_FIELD],
  );
  return (method, route) => find(method, route) ?? (method === "GET" || method === "HEAD" ? "read" : "write");
}
