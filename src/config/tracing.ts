import { FormatRegistry, Type } from "@sinclair/typebox";
import { type HeaderFields, parseHeaderFields } from "../lib/header-fields.ts";
import { OneOf } from "../lib/schema.ts";
import type { SettingOptions } from "./setting-options.ts";

FormatRegistry.Set("otel-pairs", (value) => parsePairs(value) !== null);
FormatRegistry.Set("otel-headers", (value) => readHeaders(value) !== null);

const text = (options: SettingOptions & { format?: "http-url" | "otel-pairs" | "otel-headers" }) =>
  Type.Optional(Type.String({ minLength: 1, ...options }));
const integer = (options: SettingOptions & { default: number; minimum: number; maximum: number }) =>
  Type.Integer(options);

/** Settings for OpenTelemetry traces. The names are those of OpenTelemetry's SDKs; see docs/monitoring.md. */
export const tracingSettings = {
  OTEL_EXPORTER_OTLP_ENDPOINT: text({
    format: "http-url",
    example: "http://otel-collector:4318",
    description:
      "OpenTelemetry collector that receives traces by OTLP/HTTP (protobuf), at `/v1/traces` below this URL. Absent: no " +
      "traces. See `docs/monitoring.md`.",
  }),
  OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: text({
    format: "http-url",
    example: "http://otel-collector:4318/v1/traces",
    description: "The same as a full URL, used as it is. Overrides `OTEL_EXPORTER_OTLP_ENDPOINT`.",
  }),
  OTEL_EXPORTER_OTLP_HEADERS: text({
    format: "otel-headers",
    secret: true,
    example: "authorization=Bearer%20token",
    description: "Headers for the collector as `name=value`, comma-separated, values percent-encoded.",
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
  OTEL_SERVICE_NAME: text({
    example: "parley",
    description: "`service.name` of the traces. Absent: the one in `OTEL_RESOURCE_ATTRIBUTES`, or `parley`.",
  }),
  OTEL_RESOURCE_ATTRIBUTES: text({
    format: "otel-pairs",
    example: "deployment.environment.name=production,service.namespace=chat",
    description: "Further attributes of this instance as `name=value`, comma-separated, values percent-encoded.",
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
      description: "Which traces are recorded. `parentbased_…`: as the caller decided, if `TRACE_CONTEXT=continue`.",
    },
  ),
  OTEL_TRACES_SAMPLER_ARG: Type.Number({
    default: 1,
    minimum: 0,
    maximum: 1,
    description: "Share of traces that the `traceidratio` samplers record, 0 to 1.",
  }),
  OTEL_BSP_MAX_QUEUE_SIZE: integer({
    default: 2_048,
    minimum: 1,
    maximum: 1_000_000,
    description: "Spans that wait for the collector; more are dropped and counted in `parley_trace_spans_total`.",
  }),
  OTEL_BSP_SCHEDULE_DELAY: integer({
    default: 5_000,
    minimum: 10,
    maximum: 60_000,
    description: "How long spans are collected before they are sent, in milliseconds.",
  }),
  OTEL_SDK_DISABLED: OneOf(["true", "false"], { default: "false", description: "`true` turns traces off." }),
  TRACE_CONTEXT: OneOf(["link", "continue"], {
    default: "link",
    description:
      "What to do with a caller's `traceparent` header. `link`: start a new trace that links to the caller's. `continue`: " +
      "continue the caller's trace, including its sampling decision; only if all callers are trusted.",
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

/** Parses the headers for the collector, with names in lowercase; null if they are malformed, or one of them isn't allowed. */
export function readHeaders(text: string | undefined): HeaderFields | null {
  const pairs = parsePairs(text ?? "");
  return pairs && parseHeaderFields(JSON.stringify(pairs));
}

/** Returns the resource attributes that describe this instance in traces. */
export function listResourceAttributes(
  config: TracingSettings,
  known: Readonly<Record<string, string>>,
): Record<string, string> {
  const given = parsePairs(config.OTEL_RESOURCE_ATTRIBUTES ?? "") ?? {};
  const name = config.OTEL_SERVICE_NAME ?? given["service.name"] ?? "parley";
  return { ...known, ...given, "service.name": name };
}

/** Parses OpenTelemetry's format for settings, `name=value,name=value` with percent-encoded values; null if malformed. */
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
