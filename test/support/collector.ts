import { readFileSync } from "node:fs";
import { join } from "node:path";
import protobuf from "protobufjs";
import { waitUntil } from "./wait-until.ts";

export type SeenSpan = {
  traceId: string;
  spanId: string;
  /** Null: it is the first one of its trace. */
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
  spans: SeenSpan[];
  /** The headers of each request. */
  headers: Headers[];
  /** The bodies as they arrived, to look for texts in them. */
  bodies: Uint8Array[];
  /** Waits for spans that fulfil a condition. */
  waitFor(condition: (span: SeenSpan) => boolean, count?: number): Promise<SeenSpan[]>;
  stop(): Promise<void>;
};

/**
 * A collector of traces on this machine that decodes OTLP's protobuf by its definition.
 * @param intercept answers a request instead; null: it is accepted.
 */
export function startCollector(
  intercept: (request: Request) => Response | Promise<Response> | null = () => null,
): Collector {
  const spans: SeenSpan[] = [];
  const headers: Headers[] = [];
  const bodies: Uint8Array[] = [];
  const server = Bun.serve({
    port: 0,
    hostname: "127.0.0.1",
    async fetch(request) {
      headers.push(request.headers);
      const answer = intercept(request);
      if (answer) return answer;
      const body = new Uint8Array(await request.arrayBuffer());
      const { pathname } = new URL(request.url);
      if (pathname !== "/v1/traces" || request.headers.get("content-type") !== "application/x-protobuf")
        return new Response(null, { status: 404 });
      bodies.push(body);
      spans.push(...decode(body));
      return new Response(null, { headers: { "content-type": "application/x-protobuf" } });
    },
  });
  return {
    url: `http://127.0.0.1:${server.port}`,
    spans,
    headers,
    bodies,
    async waitFor(condition, count = 1) {
      await waitUntil(() => spans.filter(condition).length >= count);
      return spans.filter(condition);
    },
    stop: () => server.stop(true),
  };
}

type Json = Record<string, unknown>;

function decode(body: Uint8Array): SeenSpan[] {
  const decoded = exportRequest.toObject(exportRequest.decode(body), { enums: String, longs: Number, arrays: true });
  return decoded.resourceSpans.flatMap(({ resource, scopeSpans }: { resource: Json; scopeSpans: Json[] }) =>
    scopeSpans.flatMap((scope) =>
      (scope.spans as Json[]).map((span) => ({
        traceId: hex(span.traceId),
        spanId: hex(span.spanId),
        parentId: hex(span.parentSpanId) || null,
        name: span.name,
        kind: span.kind,
        status: (span.status as Json | undefined)?.code ?? "UNSET",
        attributes: readAttributes(span.attributes),
        events: (span.events as Json[]).map(({ name }) => name),
        links: (span.links as Json[]).map((link) => ({ traceId: hex(link.traceId), spanId: hex(link.spanId) })),
        resource: readAttributes(resource.attributes),
      })),
    ),
  );
}

const hex = (bytes: unknown): string => Buffer.from((bytes as Uint8Array | undefined) ?? []).toString("hex");

function readAttributes(attributes: unknown): Json {
  return Object.fromEntries((attributes as { key: string; value: Json }[]).map(({ key, value }) => [key, read(value)]));
}

function read(value: Json): unknown {
  const [given] = Object.values(value);
  const { arrayValue } = value as { arrayValue?: { values: Json[] } };
  return arrayValue ? arrayValue.values.map(read) : given;
}
