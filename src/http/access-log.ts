import { Elysia } from "elysia";
import type { Log } from "../lib/log.ts";
import type { Metrics } from "../lib/metrics.ts";
import { isUuid } from "../lib/schema.ts";
import type { ReadClientAddress } from "./client-address.ts";
import { readFacts } from "./request-facts.ts";
import { readRequestId } from "./request-id.ts";
import { readUrl } from "./request-url.ts";
import { readStatus } from "./response-status.ts";

/** The method is a metric label, so unknown methods are counted as `other`. */
const knownMethods = new Set(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]);
/** Routes that monitoring polls every few seconds. They are neither logged nor measured. */
const unloggedRoutes = new Set(["/livez", "/readyz", "/healthz", "/metrics"]);
const apiRoute = /^\/(?:api\/|v1\/|realtime$)/;

/** Maximum number of logged parts of an unknown path, and their maximum length. Longer parts may be tokens. */
const PATH_PARTS_MAX = 12;
const PATH_PART_LENGTH_MAX = 24;

type Dependencies = { log: Log; metrics: Metrics; readClientAddress: ReadClientAddress };

/**
 * Creates the plugin that logs each request and measures its duration. API requests and errors are logged at `info`, pages and
 * preflights at `debug`. The query is never logged, because it may contain a ticket. The metric's `route` label is the route's
 * template, or `unmatched` for requests without a route.
 */
export function createAccessLog({ log, metrics, readClientAddress }: Dependencies) {
  /** Start times and client addresses. The address is recorded early, because it isn't available after the response. */
  const started = new WeakMap<Request, { atMs: number; address: string | null }>();
  return new Elysia({ name: "access-log" })
    .onRequest(({ request, server }) => {
      started.set(request, { atMs: performance.now(), address: readClientAddress(request, server) });
    })
    .onAfterResponse({ as: "global" }, ({ request, route, set, response }) => {
      const template = route || "unmatched";
      if (unloggedRoutes.has(template)) return;
      const { userId = null } = readFacts(request);
      const status = readStatus(request, response, set.status);
      const { atMs, address } = started.get(request) ?? { atMs: performance.now(), address: null };
      const durationMs = performance.now() - atMs;
      const method = knownMethods.has(request.method) ? request.method : "other";
      metrics.httpRequestDuration.observe({ method, route: template, status }, durationMs / 1000);
      const line = {
        request_id: readRequestId(set),
        method,
        route: template,
        ...(template === "unmatched" && { path: maskPath(readUrl(request).pathname) }),
        status,
        ms: Math.round(durationMs * 10) / 10,
        address,
        user_id: userId,
      };
      const isPreflight = method === "OPTIONS" && status === 204;
      if (status >= 400 || apiRoute.test(template) || (template === "unmatched" && !isPreflight))
        log.info(line, "request");
      else log.debug(line, "request");
    });
}

/** Masks the parts of an unknown path that may be secret, such as the token in a mistyped hook URL. */
function maskPath(path: string): string {
  const isSafe = (part: string) => part.length <= PATH_PART_LENGTH_MAX || isUuid(part);
  const shown = path.split("/", PATH_PARTS_MAX).map((part) => (isSafe(part) ? part : "…"));
  return shown.join("/");
}
