import type { Caller, Identify } from "../access/caller.ts";
import { Problem } from "../lib/problem.ts";
import type { GetClientAddress } from "./client-address.ts";
import type { RequestState, RoutePlugin } from "./mount.ts";
import { addRequestFacts } from "./request-facts.ts";
import { getRequestId } from "./request-id.ts";

/**
 * Returns the credential in `Authorization: Bearer …` or `X-API-Key`, or null if there is none.
 * @throws Problem `unauthorized` if `Authorization` has a different format.
 */
export function getCredential(headers: Headers): string | null {
  const authorization = headers.get("authorization");
  if (authorization === null) return headers.get("x-api-key");
  const match = /^Bearer +([\w.~+/=-]{1,8192}) *$/i.exec(authorization);
  if (!match?.[1]) throw new Problem("unauthorized", "Send the credential as `Authorization: Bearer <token>`.");
  return match[1];
}

/** Adds the request id to the caller, for log lines of background work. Adds the user id to the request's log line. */
export function addRequestId(caller: Caller, { request, headers }: Pick<RequestState, "request" | "headers">): Caller {
  addRequestFacts(request, { userId: caller.user.id });
  return { ...caller, requestId: getRequestId({ headers }) };
}

type Dependencies = { identify: Identify; getClientAddress: GetClientAddress };

/** Creates the plugin that authenticates the caller on each route that isn't public, before the body is read. */
export function createAuthenticationPlugin({ identify, getClientAddress }: Dependencies): RoutePlugin {
  async function onEnter(state: RequestState): Promise<void> {
    const { request, server } = state;
    const token = getCredential(request.headers);
    if (token === null)
      throw new Problem("unauthorized", "Authentication required: send `Authorization: Bearer <token>`.");
    const ipAddress = getClientAddress(request, server);
    const caller = await identify(token, { ipAddress, onBehalfOf: request.headers.get("x-on-behalf-of") });
    state.caller = addRequestId(caller, state);
  }
  return (route) => (route.public ? undefined : { onEnter });
}
