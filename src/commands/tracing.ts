import { hostname } from "node:os";
import { findTracesUrl, listResourceAttributes, parseTracingHeaders } from "../config/tracing.ts";
import type { Config } from "../config.ts";
import { build } from "../lib/build.ts";
import { createId } from "../lib/id.ts";
import { addSkippedLineCount, createLogLineLimit } from "../lib/line-limit.ts";
import type { Log } from "../lib/log.ts";
import type { Metrics } from "../lib/metrics.ts";
import { createFetch } from "../lib/outgoing/create-fetch.ts";
import { createProxyFinder } from "../lib/outgoing/find-proxy.ts";
import type { RunningTracing } from "../lib/tracing/start-tracing.ts";

/** Timeout for sending the last spans during shutdown, in addition to SHUTDOWN_TIMEOUT_MS. */
export const TRACES_FLUSH_TIMEOUT_MS = 2_000;

const failureMessage =
  "traces could not be sent to the collector; check OTEL_EXPORTER_OTLP_ENDPOINT and OTEL_EXPORTER_OTLP_HEADERS";

type Dependencies = { config: Config; log: Log; metrics: Metrics };

/** Starts tracing if a collector is configured. Otherwise returns null without loading the tracing code. */
export async function startTracingIfConfigured({ config, log, metrics }: Dependencies): Promise<RunningTracing | null> {
  const url = findTracesUrl(config);
  if (url === null) return null;
  const { startTracing } = await import("../lib/tracing/start-tracing.ts");
  const admitLine = createLogLineLimit();
  return startTracing({
    url,
    headers: parseTracingHeaders(config.OTEL_EXPORTER_OTLP_HEADERS) ?? {},
    timeoutMs: config.OTEL_EXPORTER_OTLP_TIMEOUT,
    sampler: config.OTEL_TRACES_SAMPLER,
    ratio: config.OTEL_TRACES_SAMPLER_ARG,
    resource: listResourceAttributes(config, {
      "service.version": build.version,
      "service.instance.id": createId(),
      "host.name": hostname(),
    }),
    version: build.version,
    spansMax: config.OTEL_BSP_MAX_QUEUE_SIZE,
    delayMs: config.OTEL_BSP_SCHEDULE_DELAY,
    fetch: createFetch(createProxyFinder(config)),
    onSpans: (outcome, count) => metrics.traceSpans.inc({ outcome }, count),
    onFailure(reason) {
      const skippedLines = admitLine("traces");
      if (skippedLines !== null) log.warn(addSkippedLineCount({ reason }, skippedLines), failureMessage);
    },
  });
}
