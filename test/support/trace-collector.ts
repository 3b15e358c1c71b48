import { readFileSync } from "node:fs";
import { join } from "node:path";
import protobuf from "protobufjs";
import { waitUntil } from "./wait-until.ts";

export type ReceivedSpan = {
  traceId: string;
  spanId: string;
  /** Null for a root span. */
  parentId: string | null;
  name: string;
  kind: string;
  status: string;
  attributes: Record<string, unknown>;
  events: string[];
  links: { traceId: string; spanId: string }[];
  resource: Record<string, unknown>;
};

const proto = protobuf.parse(readFileSync(join(import.meta.dir, "otlp-trace.proto"), "utf8"));
const exportRequest = proto.root.lookupType("opentelemetry.proto.trace.v1.ExportTraceServiceRequest");

type Collector = {
  url: string;
  spans: ReceivedSpan[];
  /** The headers of each request. */
  headers: Headers[];
  /** The bodies of the requests. */
  bodies: Uint8Array[];
  /** Waits for `count` spans (by default one) that match a condition. Returns all matching spans. */
  waitForSpans(condition: (span: ReceivedSpan) => boolean, count?: number): Promise<ReceivedSpan[]>;
  stop(): Promise<void>;
};

/**
 * Starts an OTLP trace collector.
 * @param intercept Returns a response to send instead of accepting a request, or null.
 */
export function startCollector(
  intercept: (request: Request) => Response | Promise<Response> | null = () => null,
): Collector {
  const spans: ReceivedSpan[] = [];
  const headers: Headers[] = [];
  const bodies: Uint8Array[] = [];
  const server = Bun.serve({
    port: 0,
    hostname: "127.0.0.1",
    async fetch(request) {
      headers.push(request.headers);
      const intercepted = intercept(request);
      if (intercepted) return intercepted;
      const body = new Uint8Array(await request.arrayBuffer());
      const { pathname } = new URL(request.url);
      if (pathname !== "/v1/traces" || request.headers.get("content-type") !== "application/x-protobuf")
        return new Response(null, { status: 404 });
      bodies.push(body);
      spans.push(...decodeSpans(body));
      return new Response(null, { headers: { "content-type": "application/x-protobuf" } });
    },
  });
  return {
    url: `http://127.0.0.1:${server.port}`,
    spans,
    headers,
    bodies,
    async waitForSpans(condition, count = 1) {
      await waitUntil(() => spans.filter(condition).length >= count);
      return spans.filter(condition);
    },
    stop: () => server.stop(true),
  };
}

type Json = Record<string, unknown>;

function decodeSpans(body: Uint8Array): ReceivedSpan[] {
  const decoded = exportRequest.toObject(exportRequest.decode(body), { enums: String, longs: Number, arrays: true });
  return decoded.resourceSpans.flatMap(({ resource, scopeSpans }: { resource: Json; scopeSpans: Json[] }) =>
    scopeSpans.flatMap((scope) =>
      (scope.spans as Json[]).map((span) => ({
        traceId: toHex(span.traceId),
        spanId: toHex(span.spanId),
        parentId: toHex(span.parentSpanId) || null,
        name: span.name,
        kind: span.kind,
        status: (span.status as Json | undefined)?.code ?? "UNSET",
        attributes: convertAttributes(span.attributes),
        events: (span.events as Json[]).map(({ name }) => name),
        links: (span.links as Json[]).map((link) => ({ traceId: toHex(link.traceId), spanId: toHex(link.spanId) })),
        resource: convertAttributes(resource.attributes),
      })),
    ),
  );
}

const toHex = (bytes: unknown): string => Buffer.from((bytes as Uint8Array | undefined) ?? []).toString("hex");

function convertAttributes(attributes: unknown): Json {
  return Object.fromEntries(
    (attributes as { key: string; value: Json }[]).map(({ key, value }) => [key, convertValue(value)]),
  );
}

function convertValue(value: Json): unknown {
  const [scalar] = Object.values(value);
  const { arrayValue } = value as { arrayValue?: { values: Json[] } };
  return arrayValue ? arrayValue.values.map(convertValue) : scalar;
}
