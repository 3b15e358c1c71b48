import { Problem } from "../lib/problem.ts";
import type { GrantedScopes } from "./scopes.ts";

/** The authenticated caller: a user with one of their sessions, or an API key that acts for a user. */
export type Caller = {
  user: { id: string; email: string; display_name: string; role: "user" | "admin"; created_at: Date };
  /** The session or API key that was presented. When it is revoked, everything opened with it is closed too. */
  credentialId: string;
  /** The scopes of the API key; null for a session. */
  scopes: GrantedScopes;
  /** When the credential expires, in milliseconds since 1970; `Infinity` if it doesn't expire. */
  expiresAtMs: number;
  /** The IP address of the request; null if unknown. */
  ipAddress: string | null;
  /** `X-Request-Id` of the request, or of the request that opened the socket; for the log. */
  requestId?: string | null;
};

/** The API key of a caller; null for a session. */
export const keyIdOf = ({ scopes, credentialId }: Caller): string | null => (scopes === null ? null : credentialId);

/** When a caller's credential expires, formatted for responses; null if it doesn't expire. */
export const formatExpiry = ({ expiresAtMs }: Caller): string | null =>
  Number.isFinite(expiresAtMs) ? new Date(expiresAtMs).toISOString() : null;

/** What a request contains for authentication apart from the credential. */
export type RequestOrigin = {
  ipAddress: string | null;
  /** The user that an API key wants to act for; null: the key's owner. */
  onBehalfOf: string | null;
};

/** Authenticates a token. @throws Problem `unauthorized`, or `forbidden` if the key may not act for this user. */
export type Identify = (token: string, origin: RequestOrigin) => Promise<Caller>;

/** @throws Problem `forbidden` unless the caller is an administrator. */
export function requireAdmin(caller: Caller): void {
  if (caller.user.role !== "admin") throw new Problem("forbidden", "Only administrators may do this.");
}
