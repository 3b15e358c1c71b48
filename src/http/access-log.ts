import { Elysia } from "elysia";
import type { Log } from "../lib/log.ts";
import type { Metrics } from "../lib/metrics.ts";
import { isUuid } from "../lib/schema.ts";
import type { ReadClientAddress } from "./client-address.ts";
import { readFacts } from "./request-facts.ts";
import { readRequestId } from "./request-id.ts";
import { readUrl } from "./request-url.ts";
import { readStatus } from "./response-status.ts";

/** The method is a metric label, so methods invented by callers are counted as `other`. */
const knownMethods = new Set(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]);
/** Polled every few seconds by monitoring: neither logged nor measured. */
const quietRoutes = new Set(["/livez", "/readyz", "/healthz", "/metrics"]);
const apiRoute = /^\/(?:api\/|v1\/|realtime$)/;

/** Parts of an unknown path that are logged, and UTF-16 units of each. Longer parts may be tokens. */
const PATH_PARTS_MAX = 12;
const PATH_PART_LENGTH_MAX = 24;

type Dependencies = { log: Log; metrics: Metrics; readClientAddress: ReadClientAddress };

/**
 * Logs each response and observes its duration under its route's template. API requests and errors are logged at `info`, pages
 * and preflights at `debug`. The query is never logged: it may hold a ticket. Requests without a route share the label `unmatched`.
 */
export function createAccessLog({ log, metrics, readClientAddress }: Dependencies) {
  /** The peer's address is no longer available after the response is sent. */
  const started = new WeakMap<Request, { atMs: number; address: string | null }>();
  return new Elysia({ name: "access-log" })
    .onRequest(({ request, server }) => {
      started.set(request, { atMs: performance.now(), address: readClientAddress(request, server) });
    })
    .onAfterResponse({ as: "global" }, ({ request, route, set, response }) => {
      const template = route || "unmatched";
      if (quietRoutes.has(template)) return;
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
        ...(template === "unmatched" && { path: showPath(readUrl(request).pathname) }),
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

/** An unknown path without parts that may be secret: a mistyped hook address may contain its token. */
function showPath(path: string): string {
  const isShown = (part: string) => part.length <= PATH_PART_LENGTH_MAX || isUuid(part);
  const shown = path.split("/", PATH_PARTS_MAX).map((part) => (isShown(part) ? part : "…"));
  return shown.join("/");
}
