import { Elysia } from "elysia";
import type { Log } from "../lib/log.ts";
import type { Metrics } from "../lib/metrics.ts";
import { isUuid } from "../lib/schema.ts";
import type { GetClientAddress } from "./client-address.ts";
import { getRequestFacts } from "./request-facts.ts";
import { getRequestId } from "./request-id.ts";
import { parseRequestUrl } from "./request-url.ts";
import { getResponseStatus } from "./response-status.ts";

/** The method is a metric label, so unknown methods are counted as `other`. */
const knownMethods = new Set(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]);
/** Routes that monitoring polls every few seconds. They are neither logged nor measured. */
const unloggedRoutes = new Set(["/livez", "/readyz", "/healthz", "/metrics"]);
const apiRoutePattern = /^\/(?:api\/|v1\/|realtime$)/;

/** Maximum number of logged parts of an unknown path. */
const PATH_PARTS_MAX = 12;
/** Maximum length of a logged part of an unknown path. Longer parts are left out, because they may be tokens. */
const PATH_PART_LENGTH_MAX = 24;

type Dependencies = { log: Log; metrics: Metrics; getClientAddress: GetClientAddress };

/**
 * Creates the plugin that logs each request and measures its duration. API requests and errors are logged at `info`, pages and
 * preflights at `debug`. The query is never logged, because it may contain a ticket. The metric's `route` label is the route's
 * template, or `unmatched` for requests without a route.
 */
export function createAccessLogPlugin({ log, metrics, getClientAddress }: Dependencies) {
  /** Start times and client addresses. The address is recorded early, because it isn't available after the response. */
  const startedRequests = new WeakMap<Request, { startedAtMs: number; address: string | null }>();
  return new Elysia({ name: "access-log" })
    .onRequest(({ request, server }) => {
      startedRequests.set(request, { startedAtMs: performance.now(), address: getClientAddress(request, server) });
    })
    .onAfterResponse({ as: "global" }, ({ request, route, set, response }) => {
      const template = route || "unmatched";
      if (unloggedRoutes.has(template)) return;
      const { userId = null } = getRequestFacts(request);
      const status = getResponseStatus(request, response, set.status);
      const { startedAtMs, address } = startedRequests.get(request) ?? {
        startedAtMs: performance.now(),
        address: null,
      };
      const durationMs = performance.now() - startedAtMs;
      const method = knownMethods.has(request.method) ? request.method : "other";
      metrics.httpRequestDuration.observe({ method, route: template, status }, durationMs / 1000);
      const line = {
        request_id: getRequestId(set),
        method,
        route: template,
        ...(template === "unmatched" && { path: maskPath(parseRequestUrl(request).pathname) }),
        status,
        ms: Math.round(durationMs * 10) / 10,
        address,
        user_id: userId,
      };
      const isPreflight = method === "OPTIONS" && status === 204;
      if (status >= 400 || apiRoutePattern.test(template) || (template === "unmatched" && !isPreflight))
        log.info(line, "request");
      else log.debug(line, "request");
    });
}

/** Masks the parts of an unknown path that may be secret, such as the token in a mistyped hook URL. */
function maskPath(path: string): string {
  const isSafe = (part: string) => part.length <= PATH_PART_LENGTH_MAX || isUuid(part);
  const maskedParts = path.split("/", PATH_PARTS_MAX).map((part) => (isSafe(part) ? part : "…"));
  return maskedParts.join("/");
}
