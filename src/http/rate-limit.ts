import { Elysia } from "elysia";
import type { AddressClass, CallerClass, LimitOutcome, Limits, RouteClass } from "../limits/limits.ts";
import type { GetClientAddress } from "./client-address.ts";
import type { RequestState, RoutePlugin } from "./mount.ts";
import type { Route } from "./route.ts";

/** Matches URLs that are rate-limited. Monitoring must work during a flood, so health and metrics aren't limited. */
const limitedUrl = /^(?:[a-z]+:\/\/[^/]*)?\/(?:api|v1|realtime)(?:[/?]|$)/;

export const isLimitedPath = (path: string): boolean => limitedUrl.test(path);

type Dependencies = {
  limits: Pick<Limits, "isLocal" | "countAddress" | "countCaller">;
  getClientAddress: GetClientAddress;
};

/** Creates the plugins that rate-limit HTTP requests. */
export function createRateLimitPlugins({ limits, getClientAddress }: Dependencies) {
  const countAddress = (limit: AddressClass, { request, server, headers }: RequestState) =>
    addLimitHeaders(limits.countAddress(limit, getClientAddress(request, server)), headers);

  /** Limits requests by client address, on routes used before authentication, such as login. */
  const limitByRoute: RoutePlugin = (route) => {
    const limit = getLimitClass(route);
    return isAddressClass(limit) ? { onEnter: (requestState) => countAddress(limit, requestState) } : undefined;
  };

  /** Limits requests by caller. Runs before access is checked, so that rejected requests count too. */
  const limitByCaller: RoutePlugin = (route) => {
    const limit = getLimitClass(route);
    if (route.public || isAddressClass(limit)) return undefined;
    return { onEnter: ({ caller, headers }) => caller && addLimitHeaders(limits.countCaller(limit, caller), headers) };
  };

  return {
    /** Limits all requests by client address, before anything else runs. */
    limitByAddress: limits.isLocal
      ? new Elysia({ name: "rate-limit" }).onRequest(({ request, server }) => {
          // A local counter throws synchronously, so there is no promise to await.
          if (limitedUrl.test(request.url)) void limits.countAddress("address", getClientAddress(request, server));
        })
      : new Elysia({ name: "rate-limit" }).onRequest(async ({ request, server }) => {
          if (limitedUrl.test(request.url)) await limits.countAddress("address", getClientAddress(request, server));
        }),
    byRoute: limitByRoute,
    byCaller: limitByCaller,
  };
}

/** Returns the limit that a route's requests count towards. */
export const getLimitClass = ({ method, limit }: Pick<Route, "method" | "limit">): RouteClass =>
  limit ?? (method === "GET" ? "read" : "write");

const isAddressClass = (limit: AddressClass | CallerClass): limit is "auth" | "renew" | "hooks_address" =>
  limit === "auth" || limit === "renew" || limit === "hooks_address";

/** Adds the rate-limit headers. */
export function addLimitHeaders(
  outcome: LimitOutcome | Promise<LimitOutcome>,
  headers: RequestState["headers"],
): Promise<void> | void {
  if (outcome instanceof Promise) return outcome.then((resolvedOutcome) => addLimitHeaders(resolvedOutcome, headers));
  if (!outcome) return;
  headers["ratelimit-policy"] = outcome.policy;
  headers.ratelimit = outcome.state;
}
