import { isOpenAiPath } from "./openai-error.ts";
import { IDEMPOTENCY_FIELD, SCOPE_FIELD } from "./openapi.ts";
import { createRouteIndex, type DeclaredRoute } from "./route-index.ts";

/**
 * What an `Idempotency-Key` does on a route. `stored`: its answer is kept and given again. `exact`: besides, the operation
 * itself does nothing twice under one operation id, so that it may run again where an answer was not kept.
 */
export type IdempotencyMode = "stored" | "exact";

/** Undefined where the header means nothing. */
export type FindIdempotencyMode = (method: string, route: string) => IdempotencyMode | undefined;

/** Every POST of the API that needs a credential takes the header, unless it declares otherwise. */
export function readIdempotencyMode({ method, path, detail }: DeclaredRoute): IdempotencyMode | undefined {
  const declared = detail as { [SCOPE_FIELD]?: string; [IDEMPOTENCY_FIELD]?: "exact" | "ignored" } | undefined;
  if (method.toUpperCase() !== "POST" || !declared?.[SCOPE_FIELD] || declared[IDEMPOTENCY_FIELD] === "ignored") return;
  if (!path.startsWith("/api/v1/") && !isOpenAiPath(path)) return;
  return declared[IDEMPOTENCY_FIELD] ?? "stored";
}

export const createFindIdempotencyMode = (listRoutes: () => readonly DeclaredRoute[]): FindIdempotencyMode =>
  createRouteIndex(listRoutes, readIdempotencyMode);
