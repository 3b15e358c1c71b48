import { Problem } from "../lib/problem.ts";

/** The scopes of API keys. `admin` includes all others. A key never has more permissions than the user it acts for. */
export const scopes = [
  "conversations:read",
  "conversations:write",
  "messages:read",
  "messages:write",
  "users:read",
  "users:write",
  "analytics:read",
  "webhooks:read",
  "webhooks:write",
  "chat:completions",
  "admin",
] as const;

export type Scope = (typeof scopes)[number];

/** The requirement of a route or frame: a scope, any credential (`any`), or a session (`session`). */
export type NeededScope = Scope | "any" | "session";

/** The scopes of a caller. Null for a session, which has all permissions of its user. */
export type GrantedScopes = ReadonlySet<Scope> | null;

/**
 * Checks that a caller has the required scope.
 * @param needed if undefined, all API keys are rejected.
 * @throws Problem `forbidden` unless the key has this scope.
 */
export function requireScope(granted: GrantedScopes, needed: NeededScope | undefined): void {
  if (granted === null || needed === "any") return;
  if (needed === undefined || needed === "session")
    throw new Problem("forbidden", "API keys may not do this. Use a session (an access token).");
  if (granted.has(needed) || granted.has("admin")) return;
  throw new Problem("forbidden", `The API key does not have the scope ${needed}.`, { neededScope: needed });
}
