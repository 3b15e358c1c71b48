import { Problem } from "../lib/problem.ts";
import type { GrantedScopes } from "./scopes.ts";

/** The authenticated caller: a user with a session, or an API key that acts for a user. */
export type Caller = {
  user: { id: string; email: string; display_name: string; role: "user" | "admin"; created_at: Date };
  /** The id of the session or API key. When it is revoked, all streams opened with it are closed. */
  credentialId: string;
  /** The scopes of the API key, or null for a session. */
  scopes: GrantedScopes;
  /** When the credential expires, in milliseconds since 1970. `Infinity` if it doesn't expire. */
  expiresAtMs: number;
  /** The IP address of the request, or null if unknown. */
  ipAddress: string | null;
  /** `X-Request-Id` of the request, or of the request that opened the socket, for the log. */
  requestId?: string | null;
};

/** Returns the id of a caller's API key, or null for a session. */
export const getKeyId = ({ scopes, credentialId }: Caller): string | null => (scopes === null ? null : credentialId);

/** Formats the time when a caller's credential expires. Returns null if it doesn't expire. */
export const formatExpiry = ({ expiresAtMs }: Caller): string | null =>
  Number.isFinite(expiresAtMs) ? new Date(expiresAtMs).toISOString() : null;

/** The properties of a request that authentication needs besides the credential. */
export type RequestOrigin = {
  ipAddress: string | null;
  /** The id of the user that an API key wants to act for. If null, it acts for its owner. */
  onBehalfOf: string | null;
};

/** Authenticates a token. @throws Problem `unauthorized`, or `forbidden` if the key isn't allowed to act for this user. */
export type Identify = (token: string, origin: RequestOrigin) => Promise<Caller>;

/** @throws Problem `forbidden` unless the caller is an administrator. */
export function requireAdmin(caller: Caller): void {
  if (caller.user.role !== "admin") throw new Problem("forbidden", "Only administrators may do this.");
}
