import { Elysia } from "elysia";
import type { AddressClass, CallerClass, LimitOutcome, Limits, RouteClass } from "../limits/limits.ts";
import type { ReadClientAddress } from "./client-address.ts";
import type { RequestState, RoutePlugin } from "./mount.ts";
import type { Route } from "./route.ts";

/** Paths that are rate-limited. Health, metrics and pages never are: monitoring must work during a flood. */
const limitedUrl = /^(?:[a-z]+:\/\/[^/]*)?\/(?:api|v1|realtime)(?:[/?]|$)/;

export const isLimitedPath = (path: string): boolean => limitedUrl.test(path);

type Dependencies = {
  limits: Pick<Limits, "isLocal" | "countAddress" | "countCaller">;
  readClientAddress: ReadClientAddress;
};

/** All rate limits of HTTP requests, in the order in which they apply; WebSocket frames have their own. */
export function createRateLimit({ limits, readClientAddress }: Dependencies) {
  const countAddress = (limit: AddressClass, { request, server, headers }: RequestState) =>
    showOutcome(limits.countAddress(limit, readClientAddress(request, server)), headers);

  /** For routes with a limit by client address: login, and others used before authentication. */
  const ofRoute: RoutePlugin = (route) => {
    const limit = limitOf(route);
    return isAddressClass(limit) ? { onEnter: (visit) => countAddress(limit, visit) } : undefined;
  };

  /** Per caller. Applied before the rights are checked, so that refused requests count as well. */
  const ofCaller: RoutePlugin = (route) => {
    const limit = limitOf(route);
    if (route.public || isAddressClass(limit)) return undefined;
    return { onEnter: ({ caller, headers }) => caller && showOutcome(limits.countCaller(limit, caller), headers) };
  };

  return {
    /** Every request of a client address, before anything else runs. */
    ofAddress: limits.isLocal
      ? new Elysia({ name: "rate-limit" }).onRequest(({ request, server }) => {
          // Counted locally, it throws synchronously and returns no promise.
          if (limitedUrl.test(request.url)) void limits.countAddress("address", readClientAddress(request, server));
        })
      : new Elysia({ name: "rate-limit" }).onRequest(async ({ request, server }) => {
          if (limitedUrl.test(request.url)) await limits.countAddress("address", readClientAddress(request, server));
        }),
    ofRoute,
    ofCaller,
  };
}

/** The limit that a request to a route counts towards. */
export const limitOf = ({ method, limit }: Pick<Route, "method" | "limit">): RouteClass =>
  limit ?? (method === "GET" ? "read" : "write");

const isAddressClass = (limit: AddressClass | CallerClass): limit is "auth" | "renew" | "hooks_address" =>
  limit === "auth" || limit === "renew" || limit === "hooks_address";

/** Adds the rate-limit headers. */
export function showOutcome(
  outcome: LimitOutcome | Promise<LimitOutcome>,
  headers: RequestState["headers"],
): Promise<void> | void {
  if (outcome instanceof Promise) return outcome.then((later) => showOutcome(later, headers));
  if (!outcome) return;
  headers["ratelimit-policy"] = outcome.policy;
  headers.ratelimit = outcome.state;
}
