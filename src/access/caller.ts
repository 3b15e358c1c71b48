import { Problem } from "../lib/problem.ts";
import type { GrantedScopes } from "./scopes.ts";

/** Who calls: a user through one of their sessions, or an API key that acts for a user. */
export type Caller = {
  user: { id: string; email: string; display_name: string; role: "user" | "admin"; created_at: Date };
  /** The session or the API key that was shown; when it ends, so does all that hangs on it. */
  credentialId: string;
  /** Null for a session. */
  scopes: GrantedScopes;
  /** When the credential ends, in milliseconds since 1970; `Infinity` for a key that does not. */
  expiresAtMs: number;
  /** Where the request came from; null when that is not known. */
  ipAddress: string | null;
  /** `X-Request-Id` of the request, or of the one that opened the socket; for the log. */
  requestId?: string | null;
};

/** The API key of a caller; null for a session. */
export const keyIdOf = ({ scopes, credentialId }: Caller): string | null => (scopes === null ? null : credentialId);

/** When a caller's credential ends, as clients are told; null: it does not. */
export const showExpiry = ({ expiresAtMs }: Caller): string | null =>
  Number.isFinite(expiresAtMs) ? new Date(expiresAtMs).toISOString() : null;

/** What a request says besides its credential. */
export type RequestOrigin = {
  ipAddress: string | null;
  /** The user whom a key wants to act for; null: its owner. */
  onBehalfOf: string | null;
};

/** Finds out who a token belongs to. @throws Problem `unauthorized`, `forbidden` (may not act for this user). */
export type Identify = (token: string, origin: RequestOrigin) => Promise<Caller>;

/** @throws Problem `forbidden` unless the caller is an administrator. */
export function requireAdmin(caller: Caller): void {
  if (caller.user.role !== "admin") throw new Problem("forbidden", "This needs an administrator.");
}
