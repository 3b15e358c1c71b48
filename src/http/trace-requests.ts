import { Elysia } from "elysia";
import { parseTraceparent } from "../lib/tracing/traceparent.ts";
import { failSpan, type Span, SpanKind, type Tracing } from "../lib/tracing/tracing.ts";
import { addRequestFacts, getRequestFacts } from "./request-facts.ts";
import { getRequestId } from "./request-id.ts";
import { getResponseStatus } from "./response-status.ts";

/** Matches URLs that monitoring polls every few seconds. They aren't traced. */
const untracedUrl = /^[^/]*\/\/[^/]+\/(?:livez|readyz|healthz|metrics)(?:\?|$)/;
const knownMethods = new Set(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]);

type Options = {
  tracing: Tracing | null;
  /** Whether a client's trace is continued. Otherwise, the new trace links to it. */
  shouldContinueTraces: boolean;
};

/**
 * Creates the plugin that records a span for each request, named after the method and the route's template. All other spans of
 * the request are its descendants. Paths, queries, headers, addresses and bodies are not recorded. Adds no hooks if `tracing` is
 * null.
 */
export function createTracingPlugin({ tracing, shouldContinueTraces }: Options) {
  const plugin = new Elysia({ name: "trace-requests" });
  if (!tracing) return plugin;

  function startSpan(request: Request, tracing: Tracing): Span {
    const method = knownMethods.has(request.method) ? request.method : "_OTHER";
    const clientSpan = parseTraceparent(request.headers.get("traceparent"));
    const options = {
      kind: SpanKind.SERVER,
      attributes: { "http.request.method": method, "url.scheme": request.url.startsWith("https") ? "https" : "http" },
      parent: shouldContinueTraces && clientSpan ? clientSpan : null,
      ...(!shouldContinueTraces && clientSpan && { links: [clientSpan] }),
    };
    return tracing.start(method === "_OTHER" ? "HTTP" : method, options);
  }

  return plugin
    .wrap((handle, request) => {
      if (untracedUrl.test(request.url)) return handle;
      const span = startSpan(request, tracing);
      addRequestFacts(request, { span });
      return ((...args: Parameters<typeof handle>) => tracing.within(span, () => handle(...args))) as typeof handle;
    })
    .onAfterResponse({ as: "global" }, ({ request, route, set, response }) => {
      const { span } = getRequestFacts(request);
      if (!span) return;
      const status = getResponseStatus(request, response, set.status);
      if (route) {
        span.updateName(`${request.method} ${route}`);
        span.setAttribute("http.route", route);
      }
      span.setAttributes({ "http.response.status_code": status, "parley.request_id": getRequestId(set) });
      // According to OpenTelemetry's conventions for HTTP servers, only 5xx responses are errors.
      if (status >= 500) failSpan(span, String(status));
      span.end();
    });
}
