import { Elysia } from "elysia";
import { parseTraceparent } from "../lib/tracing/traceparent.ts";
import { failSpan, type Span, SpanKind, type Tracing } from "../lib/tracing/tracing.ts";
import { addFacts, readFacts } from "./request-facts.ts";
import { readRequestId } from "./request-id.ts";
import { readStatus } from "./response-status.ts";

/** Polled every few seconds by monitoring: not traced. */
const quietPath = /^[^/]*\/\/[^/]+\/(?:livez|readyz|healthz|metrics)(?:\?|$)/;
const knownMethods = new Set(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]);

type Options = {
  tracing: Tracing | null;
  /** Whether a caller's trace is continued; otherwise the new trace links to it. */
  continuesTraces: boolean;
};

/**
 * One span for each request, named after its route's template. The request is handled inside it, so that all other spans
 * are below it. No path, query, header, address or body is recorded. Off without `tracing`: then no hook is added.
 */
export function createTraceRequests({ tracing, continuesTraces }: Options) {
  const plugin = new Elysia({ name: "trace-requests" });
  if (!tracing) return plugin;

  function start(request: Request, tracing: Tracing): Span {
    const method = knownMethods.has(request.method) ? request.method : "_OTHER";
    const caller = parseTraceparent(request.headers.get("traceparent"));
    const options = {
      kind: SpanKind.SERVER,
      attributes: { "http.request.method": method, "url.scheme": request.url.startsWith("https") ? "https" : "http" },
      parent: continuesTraces && caller ? caller : null,
      ...(!continuesTraces && caller && { links: [caller] }),
    };
    return tracing.start(method === "_OTHER" ? "HTTP" : method, options);
  }

  return plugin
    .wrap((handle, request) => {
      if (quietPath.test(request.url)) return handle;
      const span = start(request, tracing);
      addFacts(request, { span });
      return ((...given: Parameters<typeof handle>) => tracing.within(span, () => handle(...given))) as typeof handle;
    })
    .onAfterResponse({ as: "global" }, ({ request, route, set, response }) => {
      const { span } = readFacts(request);
      if (!span) return;
      const status = readStatus(request, response, set.status);
      if (route) {
        span.updateName(`${request.method} ${route}`);
        span.setAttribute("http.route", route);
      }
      span.setAttributes({ "http.response.status_code": status, "parley.request_id": readRequestId(set) });
      // A 4xx is the caller's error, not the server's (OpenTelemetry's conventions for HTTP servers).
      if (status >= 500) failSpan(span, String(status));
      span.end();
    });
}
