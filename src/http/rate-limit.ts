import { Elysia } from "elysia";
import type { AddressClass, CallerClass, LimitOutcome, Limits, RouteClass } from "../limits/limits.ts";
import type { ReadClientAddress } from "./client-address.ts";
import type { RoutePlugin, Visit } from "./mount.ts";
import type { Route } from "./route.ts";

/** What costs something. Health, metrics and pages are never limited: whoever watches a flood has to see it. */
const limitedUrl = /^(?:[a-z]+:\/\/[^/]*)?\/(?:api|v1|realtime)(?:[/?]|$)/;

export const isLimitedPath = (path: string): boolean => limitedUrl.test(path);

type Dependencies = {
  limits: Pick<Limits, "isLocal" | "countAddress" | "countCaller">;
  readClientAddress: ReadClientAddress;
};

/** All limits that requests meet, in the order in which they do; frames meet their own. */
export function createRateLimit({ limits, readClientAddress }: Dependencies) {
  const countAddress = (limit: AddressClass, { request, server, headers }: Visit) =>
    showOutcome(limits.countAddress(limit, readClientAddress(request, server)), headers);

  /** For routes that declare a limit by address: what is asked before anybody is known, or whoever is. */
  const ofRoute: RoutePlugin = (route) => {
    const limit = limitOf(route);
    return isAddressClass(limit) ? { onEnter: (visit) => countAddress(limit, visit) } : undefined;
  };

  /** Of who calls. Comes before their rights are looked at: who asks in vain all the time is limited as well. */
  const ofCaller: RoutePlugin = (route) => {
    const limit = limitOf(route);
    if (route.public || isAddressClass(limit)) return undefined;
    return { onEnter: ({ caller, headers }) => caller && showOutcome(limits.countCaller(limit, caller), headers) };
  };

  return {
    /** Every request of a client address, before anything else is looked at. */
    ofAddress: limits.isLocal
      ? new Elysia({ name: "rate-limit" }).onRequest(({ request, server }) => {
          // Counted here, it throws at once and gives no promise.
          if (limitedUrl.test(request.url)) void limits.countAddress("address", readClientAddress(request, server));
        })
      : new Elysia({ name: "rate-limit" }).onRequest(async ({ request, server }) => {
          if (limitedUrl.test(request.url)) await limits.countAddress("address", readClientAddress(request, server));
        }),
    ofRoute,
    ofCaller,
  };
}

/** What a request to a route counts as. */
export const limitOf = ({ method, limit }: Pick<Route, "method" | "limit">): RouteClass =>
  limit ?? (method === "GET" ? "read" : "write");

const isAddressClass = (limit: AddressClass | CallerClass): limit is "auth" | "renew" | "hooks_address" =>
  limit === "auth" || limit === "renew" || limit === "hooks_address";

/** Says in the headers what is left. */
export function showOutcome(
  outcome: LimitOutcome | Promise<LimitOutcome>,
  headers: Visit["headers"],
): Promise<void> | void {
  if (outcome instanceof Promise) return outcome.then((later) => showOutcome(later, headers));
  if (!outcome) return;
  headers["ratelimit-policy"] = outcome.policy;
  headers.ratelimit = outcome.state;
}
