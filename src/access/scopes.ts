import { Problem } from "../lib/problem.ts";

/** What an API key can be allowed. `admin` stands for all of them; none reaches further than the user it acts for. */
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

/** What a route or a frame asks of a key: one scope, none (`any` key will do), or no key at all (`session`). */
export type NeededScope = Scope | "any" | "session";

/** What a caller may do: null for a session, which may do all that its user may. */
export type GrantedScopes = ReadonlySet<Scope> | null;

/**
 * @param needed undefined where nothing was declared, which no key gets past.
 * @throws Problem `forbidden` unless the key that was shown has this scope.
 */
export function requireScope(granted: GrantedScopes, needed: NeededScope | undefined): void {
  if (granted === null || needed === "any") return;
  if (needed === undefined || needed === "session")
    throw new Problem("forbidden", "This takes a session; an API key may not do it.");
  if (granted.has(needed) || granted.has("admin")) return;
  throw new Problem("forbidden", `The API key does not have the scope ${needed}.`, { neededScope: needed });
}
