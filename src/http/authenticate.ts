import { Elysia } from "elysia";
import { Problem } from "../lib/problem.ts";
import type { ReadClientAddress } from "./client-address.ts";
import type { Idempotency } from "./idempotency.ts";
import type { CountRequest } from "./rate-limit.ts";
import { type GrantedScopes, type NeededScope, requireScope } from "./scopes.ts";

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

/** What a route asks of an API key; undefined where it declares nothing. */
export type FindScope = (method: string, route: string) => NeededScope | undefined;

/**
 * The credential of a request: `Authorization: Bearer …` or `X-API-Key`.
 * @throws Problem `unauthorized` when the header has another form.
 */
export function readCredential(headers: Headers): string | null {
  const authorization = headers.get("authorization");
  if (authorization === null) return headers.get("x-api-key");
  const match = /^Bearer +([\w.~+/=-]{1,8192}) *$/i.exec(authorization);
  if (!match?.[1]) throw new Problem("unauthorized", "Send the credential as `Authorization: Bearer <token>`.");
  return match[1];
}

type AuthenticateDependencies = {
  identify: Identify;
  findScope: FindScope;
  readClientAddress: ReadClientAddress;
  idempotency: Idempotency;
  countRequest: CountRequest;
};

/**
 * Adds `caller` to the context of the routes behind it; without a good credential, or with a key that lacks the scope of
 * the route, none of them is reached. A repeated `Idempotency-Key` is answered here, so that no route can forget it.
 */
export function createAuthenticate({
  identify,
  findScope,
  readClientAddress,
  idempotency,
  countRequest,
}: AuthenticateDependencies) {
  return (
    new Elysia({ name: "authenticate" })
      .derive({ as: "scoped" }, async ({ request, server, route, set }) => {
        const token = readCredential(request.headers);
        if (token === null) throw new Problem("unauthorized", "This address needs a credential.");
        const ipAddress = readClientAddress(request, server);
        const caller = await identify(token, { ipAddress, onBehalfOf: request.headers.get("x-on-behalf-of") });
        // Before the scope is looked at: who asks in vain all the time is limited as well.
        const counted = countRequest(caller, request.method, route, set.headers);
        if (counted) await counted;
        if (caller.scopes !== null) requireScope(caller.scopes, findScope(request.method, route));
        return { caller };
      })
      // The framework reads in the texts of these two that their results may be promises (`return x(`), and what they use.
      .onBeforeHandle({ as: "scoped" }, ({ request, route, body, caller, set }) => {
        if (!request.headers.has("idempotency-key")) return;
        return idempotency.begin({ request, route, body, caller, set });
      })
      .mapResponse({ as: "scoped" }, ({ request, set, responseValue }) => {
        if (!idempotency.isRunning(request)) return;
        return idempotency.end(request, set, responseValue);
      })
  );
}

export type Authenticate = ReturnType<typeof createAuthenticate>;

/** @throws Problem `forbidden` unless the caller is an administrator. */
export function requireAdmin(caller: Caller): void {
  if (caller.user.role !== "admin") throw new Problem("forbidden", "This needs an administrator.");
}
