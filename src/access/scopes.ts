import { Problem } from "../lib/problem.ts";

/** The scopes of an API key. `admin` includes all others. A key never has more rights than the user it acts for. */
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

/** What a route or frame requires: one scope, any key (`any`), or a session (`session`). */
export type NeededScope = Scope | "any" | "session";

/** The scopes of a caller; null for a session, which has all rights of its user. */
export type GrantedScopes = ReadonlySet<Scope> | null;

/**
 * @param needed undefined if the route declares nothing: then every key is refused.
 * @throws Problem `forbidden` unless the key has this scope.
 */
export function requireScope(granted: GrantedScopes, needed: NeededScope | undefined): void {
  if (granted === null || needed === "any") return;
  if (needed === undefined || needed === "session")
    throw new Problem("forbidden", "API keys may not do this. Use a session (an access token).");
  if (granted.has(needed) || granted.has("admin")) return;
  throw new Problem("forbidden", `The API key does not have the scope ${needed}.`, { neededScope: needed });
}
