import { Elysia, StatusMap } from "elysia";
import type { Log } from "../lib/log.ts";
import type { Metrics } from "../lib/metrics.ts";
import { isUuid } from "../lib/schema.ts";
import type { ReadClientAddress } from "./client-address.ts";
import { readFacts } from "./request-facts.ts";
import { readRequestId } from "./request-id.ts";
import { readUrl } from "./request-url.ts";

/** A method is a label of a metric, so what callers make up may not become one. */
const knownMethods = new Set(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]);
/** Asked every few seconds by machines: neither logged nor measured. */
const quietRoutes = new Set(["/livez", "/readyz", "/healthz", "/metrics"]);
const apiRoute = /^\/(?:api\/|v1\/|realtime$)/;

/** Parts of an unknown path that are logged, and UTF-16 units of each: longer ones may be tokens. */
const PATH_PARTS_MAX = 12;
const PATH_PART_LENGTH_MAX = 24;

type Dependencies = { log: Log; metrics: Metrics; readClientAddress: ReadClientAddress };

/**
 * Logs each answer, and observes its duration under its route's template: at `info` what is of the API and what failed, at
 * `debug` pages and preflights. Never the query: it may hold a ticket. Requests without a route share the label `unmatched`.
 */
export function createAccessLog({ log, metrics, readClientAddress }: Dependencies) {
  /** The peer's address is not known any more when the answer has gone. */
  const begun = new WeakMap<Request, { atMs: number; address: string | null }>();
  return new Elysia({ name: "access-log" })
    .onRequest(({ request, server }) => {
      begun.set(request, { atMs: performance.now(), address: readClientAddress(request, server) });
    })
    .onAfterResponse({ as: "global" }, ({ request, route, set, response }) => {
      const template = route || "unmatched";
      if (quietRoutes.has(template)) return;
      const { userId = null, isUpgraded = false } = readFacts(request);
      const status = isUpgraded ? 101 : readStatus(response, set.status);
      const { atMs, address } = begun.get(request) ?? { atMs: performance.now(), address: null };
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

/** The framework also takes a status by its name. */
function readStatus(response: unknown, status: number | string | undefined): number {
  if (response instanceof Response) return response.status;
  if (typeof status === "number") return status;
  return StatusMap[status as keyof typeof StatusMap] ?? 200;
}

/** An address that is none of ours, as far as it can hold no secret: a hook's token may stand in a mistyped one. */
function showPath(path: string): string {
  const isShown = (part: string) => part.length <= PATH_PART_LENGTH_MAX || isUuid(part);
  const shown = path.split("/", PATH_PARTS_MAX).map((part) => (isShown(part) ? part : "…"));
  return shown.join("/");
}
