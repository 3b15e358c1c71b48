import type { Caller, Identify } from "../access/caller.ts";
import { Problem } from "../lib/problem.ts";
import type { ReadClientAddress } from "./client-address.ts";
import type { RoutePlugin, Visit } from "./mount.ts";
import { noteFacts } from "./request-facts.ts";
import { readRequestId } from "./request-id.ts";

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

/** Lines of the log about what a caller begins name the request, and the request's line the user. */
export function nameRequest(caller: Caller, { request, headers }: Pick<Visit, "request" | "headers">): Caller {
  noteFacts(request, { userId: caller.user.id });
  return { ...caller, requestId: readRequestId({ headers }) };
}

type Dependencies = { identify: Identify; readClientAddress: ReadClientAddress };

/** Finds out who calls, on every route that is not public: without a good credential nothing else is looked at. */
export function createAuthenticate({ identify, readClientAddress }: Dependencies): RoutePlugin {
  async function onEnter(visit: Visit): Promise<void> {
    const { request, server } = visit;
    const token = readCredential(request.headers);
    if (token === null) throw new Problem("unauthorized", "This address needs a credential.");
    const ipAddress = readClientAddress(request, server);
    const caller = await identify(token, { ipAddress, onBehalfOf: request.headers.get("x-on-behalf-of") });
    visit.caller = nameRequest(caller, visit);
  }
  return (route) => (route.public ? undefined : { onEnter });
}
