import type { NeededScope } from "../access/scopes.ts";
import type { FindScope } from "./authenticate.ts";
import { SCOPE_FIELD } from "./openapi.ts";
import { createRouteIndex, type DeclaredRoute } from "./route-index.ts";

/** What each route asks of an API key. */
export const createFindScope = (listRoutes: () => readonly DeclaredRoute[]): FindScope =>
  createRouteIndex(listRoutes, ({ detail }) => (detail as { [SCOPE_FIELD]?: NeededScope } | undefined)?.[SCOPE_FIELD]);
