import { Elysia } from "elysia";
import type { Log } from "../lib/log.ts";
import type { Metrics } from "../lib/metrics.ts";
import { readRequestId } from "./request-id.ts";

/** A method is a label of a metric, so what callers make up may not become one. */
const knownMethods = new Set(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]);
/** Asked every few seconds by machines: neither logged nor measured. */
const quietRoutes = new Set(["/livez", "/readyz", "/healthz", "/metrics"]);

/**
 * Logs each answer (at `info`, with `debug` for what is not the API) and observes its duration under its route's
 * template. Never the query: it may hold a ticket. Requests without a route share the label `unmatched`.
 */
export function createAccessLog({ log, metrics }: { log: Log; metrics: Metrics }) {
  const startedAt = new WeakMap<Request, number>();
  return new Elysia({ name: "access-log" })
    .onRequest(({ request }) => {
      startedAt.set(request, performance.now());
    })
    .onAfterResponse({ as: "global" }, ({ request, route, set, response }) => {
      const template = route || "unmatched";
      if (quietRoutes.has(template)) return;
      const status = response instanceof Response ? response.status : Number(set.status ?? 200);
      const durationMs = performance.now() - (startedAt.get(request) ?? performance.now());
      const method = knownMethods.has(request.method) ? request.method : "other";
      metrics.httpRequestDuration.observe({ method, route: template, status }, durationMs / 1000);
      const line = {
        request_id: readRequestId(set),
        method,
        route: template,
        status,
        ms: Math.round(durationMs * 10) / 10,
      };
      if (template.startsWith("/api/") || template.startsWith("/v1/")) log.info(line, "request");
      else log.debug(line, "request");
    });
}
