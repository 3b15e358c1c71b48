import { FormatRegistry, Type } from "@sinclair/typebox";
import { type HeaderFields, parseHeaderFields } from "../lib/header-fields.ts";
import { OneOf } from "../lib/schema.ts";
import type { SettingOptions } from "./setting-options.ts";

FormatRegistry.Set("otel-pairs", (value) => parsePairs(value) !== null);
FormatRegistry.Set("otel-headers", (value) => parseTracingHeaders(value) !== null);

const optionalString = (options: SettingOptions & { format?: "http-url" | "otel-pairs" | "otel-headers" }) =>
  Type.Optional(Type.String({ minLength: 1, ...options }));
const integer = (options: SettingOptions & { default: number; minimum: number; maximum: number }) =>
  Type.Integer(options);

/** Settings for traces, with the names that OpenTelemetry's SDKs use; see docs/monitoring.md. */
export const tracingSettings = {
  OTEL_EXPORTER_OTLP_ENDPOINT: optionalString({
    format: "http-url",
    example: "http://otel-collector:4318",
    description:
      "URL of the OpenTelemetry collector, without `/v1/traces`. It receives traces over OTLP/HTTP (protobuf). If unset, no " +
      "traces are sent. See `docs/monitoring.md`.",
  }),
  OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: optionalString({
    format: "http-url",
    example: "http://otel-collector:4318/v1/traces",
    description: "Full URL that traces are sent to. Overrides `OTEL_EXPORTER_OTLP_ENDPOINT`.",
  }),
  OTEL_EXPORTER_OTLP_HEADERS: optionalString({
    format: "otel-headers",
    secret: true,
    example: "authorization=Bearer%20token",
    description:
      "Headers for requests to the collector, as `name=value`, comma-separated, with percent-encoded values.",
  }),
  OTEL_EXPORTER_OTLP_PROTOCOL: OneOf(["http/protobuf"], {
    default: "http/protobuf",
    description: "The only supported protocol. Collectors usually accept it on port 4318.",
  }),
  OTEL_EXPORTER_OTLP_TIMEOUT: integer({
    default: 10_000,
    minimum: 100,
    maximum: 60_000,
    description: "Timeout of a request to the collector, in milliseconds.",
  }),
  OTEL_SERVICE_NAME: optionalString({
    example: "parley",
    description:
      "`service.name` of the traces. If unset, the `service.name` in `OTEL_RESOURCE_ATTRIBUTES` is used, or `parley`.",
  }),
  OTEL_RESOURCE_ATTRIBUTES: optionalString({
    format: "otel-pairs",
    example: "deployment.environment.name=production,service.namespace=chat",
    description:
      "Additional attributes of this instance, as `name=value`, comma-separated, with percent-encoded values.",
  }),
  OTEL_TRACES_SAMPLER: OneOf(
    [
      "always_on",
      "always_off",
      "traceidratio",
      "parentbased_always_on",
      "parentbased_always_off",
      "parentbased_traceidratio",
    ],
    {
      default: "parentbased_always_on",
      description:
        "Which traces are recorded. With `TRACE_CONTEXT=continue`, `parentbased_…` uses the caller's sampling decision.",
    },
  ),
  OTEL_TRACES_SAMPLER_ARG: Type.Number({
    default: 1,
    minimum: 0,
    maximum: 1,
    description: "Fraction of traces that the `traceidratio` samplers record, from 0 to 1.",
  }),
  OTEL_BSP_MAX_QUEUE_SIZE: integer({
    default: 2_048,
    minimum: 1,
    maximum: 1_000_000,
    description:
      "Maximum number of spans queued for the collector. Further spans are dropped, and counted in `parley_trace_spans_total`.",
  }),
  OTEL_BSP_SCHEDULE_DELAY: integer({
    default: 5_000,
    minimum: 10,
    maximum: 60_000,
    description: "Interval between two batches of spans, in milliseconds.",
  }),
  OTEL_SDK_DISABLED: OneOf(["true", "false"], { default: "false", description: "`true` turns traces off." }),
  TRACE_CONTEXT: OneOf(["link", "continue"], {
    default: "link",
    description:
      "How to use a caller's `traceparent` header. `link` starts a new trace that links to the caller's. `continue` continues " +
      "the caller's trace, including its sampling decision; use it only if all callers are trusted.",
  }),
};

export type TracingSettings = {
  OTEL_EXPORTER_OTLP_ENDPOINT?: string | undefined;
  OTEL_EXPORTER_OTLP_TRACES_ENDPOINT?: string | undefined;
  OTEL_SERVICE_NAME?: string | undefined;
  OTEL_RESOURCE_ATTRIBUTES?: string | undefined;
  OTEL_SDK_DISABLED: "true" | "false";
};

/** Returns the URL that spans are sent to; null if tracing is off. */
export function findTracesUrl(config: TracingSettings): string | null {
  if (config.OTEL_SDK_DISABLED === "true") return null;
  if (config.OTEL_EXPORTER_OTLP_TRACES_ENDPOINT !== undefined) return config.OTEL_EXPORTER_OTLP_TRACES_ENDPOINT;
  if (config.OTEL_EXPORTER_OTLP_ENDPOINT === undefined) return null;
  const url = new URL(config.OTEL_EXPORTER_OTLP_ENDPOINT);
  url.pathname = `${url.pathname.replace(/\/+$/, "")}/v1/traces`;
  return url.href;
}

/** Parses the headers for the collector, with names in lowercase. Returns null if they are malformed or one isn't allowed. */
export function parseTracingHeaders(text: string | undefined): HeaderFields | null {
  const pairs = parsePairs(text ?? "");
  return pairs && parseHeaderFields(JSON.stringify(pairs));
}

/** Returns the resource attributes that describe this instance in traces. */
export function listResourceAttributes(
  config: TracingSettings,
  defaults: Readonly<Record<string, string>>,
): Record<string, string> {
  const configuredAttributes = parsePairs(config.OTEL_RESOURCE_ATTRIBUTES ?? "") ?? {};
  const serviceName = config.OTEL_SERVICE_NAME ?? configuredAttributes["service.name"] ?? "parley";
  return { ...defaults, ...configuredAttributes, "service.name": serviceName };
}

/** Parses `name=value,name=value` with percent-encoded values. Returns null if it is malformed. */
function parsePairs(text: string): Record<string, string> | null {
  const pairs: Record<string, string> = {};
  for (const part of text.split(",")) {
    if (part.trim() === "") continue;
    const equals = part.indexOf("=");
    const name = part.slice(0, equals).trim();
    if (equals < 1 || !/^[\w.!#$%&'*+^`|~-]+$/.test(name)) return null;
    try {
      const value = decodeURIComponent(part.slice(equals + 1).trim());
      if (/\p{Cc}/u.test(value)) return null;
      pairs[name] = value;
    } catch {
      return null;
    }
  }
  return pairs;
}
