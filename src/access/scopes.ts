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

/** What a route or frame requires: a scope, any key or session (`any`), or a session (`session`). */
export type NeededScope = Scope | "any" | "session";

/** The scopes of a caller; null for a session, which has all permissions of its user. */
export type GrantedScopes = ReadonlySet<Scope> | null;

/**
 * Requires a scope.
 * @param needed undefined if the route declares none; then every API key is refused.
 * @throws Problem `forbidden` unless the key has this scope.
 */
export function requireScope(granted: GrantedScopes, needed: NeededScope | undefined): void {
  if (granted === null || needed === "any") return;
  if (needed === undefined || needed === "session")
    throw new Problem("forbidden", "API keys may not do this. Use a session (an access token).");
  if (granted.has(needed) || granted.has("admin")) return;
  throw new Problem("forbidden", `The API key does not have the scope ${needed}.`, { neededScope: needed });
}
