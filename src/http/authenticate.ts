import { Elysia } from "elysia";
import type { Identify } from "../access/caller.ts";
import { type NeededScope, requireScope } from "../access/scopes.ts";
import { Problem } from "../lib/problem.ts";
import type { ReadClientAddress } from "./client-address.ts";
import type { Idempotency } from "./idempotency.ts";
import type { CountRequest } from "./rate-limit.ts";

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
