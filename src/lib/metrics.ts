import { Counter, Gauge, Histogram, Registry } from "prom-client";
import { createGenAiMetrics, modelBuckets } from "./gen-ai-metrics.ts";
import { registerProcessMetrics } from "./process-metrics.ts";

const fastBuckets = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];

/** Creates all of Parley's metrics. Labels must not be ids, raw paths or error messages. */
export function createMetrics(build: { version: string; commit: string }) {
  const registry = new Registry();
  const registers = [registry];
  registerProcessMetrics(registry);
  const counter = <L extends string>(name: string, help: string, labelNames: readonly L[] = []) =>
    new Counter<L>({ name: `parley_${name}`, help, labelNames, registers });
  const gauge = <L extends string>(name: string, help: string, labelNames: readonly L[] = []) =>
    new Gauge<L>({ name: `parley_${name}`, help, labelNames, registers });
  const histogram = <L extends string>(name: string, help: string, buckets: number[], labelNames: readonly L[] = []) =>
    new Histogram<L>({ name: `parley_${name}`, help, labelNames, buckets, registers });

  gauge("build_info", "Always 1; the labels state the version.", ["version", "commit"]).set(
    { version: build.version, commit: build.commit },
    1,
  );
  const tlsCertificateExpiry = gauge(
    "tls_certificate_expiry_timestamp_seconds",
    "When the served certificate expires, in seconds since 1970; no value without TLS.",
  );
  tlsCertificateExpiry.remove();
  const backupLastSuccess = gauge(
    "backup_last_success_timestamp_seconds",
    "When the last scheduled backup succeeded, in seconds since 1970; no value before the first one.",
  );
  backupLastSuccess.remove();
  const backupSize = gauge("backup_size_bytes", "Size of the last scheduled backup; no value before the first one.");
  backupSize.remove();
  const pushedFrames = new Map<string, number>();
  const wsFrames = new Counter({
    name: "parley_ws_frames_total",
    help: "WebSocket frames.",
    labelNames: ["direction", "type"] as const,
    registers,
    collect() {
      for (const [type, frames] of pushedFrames) this.inc({ direction: "out", type }, frames);
      pushedFrames.clear();
    },
  });

  return {
    registry,
    httpRequestDuration: histogram("http_request_duration_seconds", "Duration of HTTP requests.", fastBuckets, [
      "method",
      "route",
      "status",
    ]),
    wsConnections: gauge("ws_connections", "Open WebSocket connections."),
    wsFrames,
    /** Counts frames sent to listeners. Called for each delta, so it only adds to a map, which is exported at the next scrape. */
    countPushes(type: string, listeners: number): void {
      pushedFrames.set(type, (pushedFrames.get(type) ?? 0) + listeners);
    },
    messages: counter("messages_total", "Messages stored.", ["role"]),
    messageCommitDuration: histogram(
      "message_commit_duration_seconds",
      "Time from the arrival of a message to its commit.",
      fastBuckets,
    ),
    generations: counter("generations_total", "Finished generations (runs of a model).", ["model", "outcome"]),
    generationFirstToken: histogram(
      "generation_first_token_seconds",
      "Time from the start of a generation to its first text.",
      modelBuckets,
      ["model"],
    ),
    generationDuration: histogram("generation_duration_seconds", "Duration of generations.", modelBuckets, ["model"]),
    aiTokens: counter(
      "ai_tokens_total",
      "Tokens used by model requests, as stored and charged; `kind` is `input`, `output`, or `reasoning`, which is part of `output`.",
      ["model", "kind"],
    ),
    genAi: createGenAiMetrics(registry),
    aiFailovers: counter("ai_failovers_total", "Failovers from one model to the next.", ["from", "to", "reason"]),
    aiRepeatedRequests: counter(
      "ai_repeated_requests_total",
      "Requests sent again because the provider had closed the reused connection without a response.",
      ["provider"],
    ),
    aiCostUsd: counter("ai_cost_usd_total", "Cost of replies in US dollars, except for models with an unknown price.", [
      "model",
    ]),
    aiModelAvailable: gauge("ai_model_available", "1, or 0 while the model's circuit breaker is open.", ["model"]),
    budgetRejections: counter("budget_rejections_total", "Answers rejected because a budget is used up.", ["period"]),
    quotaRejections: counter("quota_rejections_total", "Requests and frames rejected because a quota is exceeded.", [
      "quota",
    ]),
    cacheRequests: counter("cache_requests_total", "Cache lookups.", ["cache", "result"]),
    cacheBytes: gauge("cache_bytes", "Approximate bytes of cached responses.", ["cache"]),
    dbPoolConnections: gauge(
      "db_pool_connections",
      "Database connections by state, statements waiting for one, and the maximum.",
      ["state"],
    ),
    dbPoolWait: histogram(
      "db_pool_wait_seconds",
      "Time that statements and transactions waited for a database connection.",
      [0.0001, ...fastBuckets],
    ),
    rateLimited: counter("rate_limited_total", "Requests and frames rejected by a rate limit.", ["limit"]),
    analyticsRefreshDuration: histogram(
      "analytics_refresh_duration_seconds",
      "Duration of one step of counting new and changed messages for analytics.",
      fastBuckets,
    ),
    busMessages: counter(
      "bus_messages_total",
      "Messages between instances: sent, received, or dropped before sending.",
      ["direction"],
    ),
    busHealthy: gauge(
      "bus_healthy",
      "1 while messages between instances arrive immediately; 0 while they go through the database.",
    ),
    webhookDeliveries: counter("webhook_deliveries_total", "Webhook delivery attempts.", ["outcome"]),
    backups: counter("backups_total", "Scheduled backups of this instance, by outcome.", ["outcome"]),
    backupLastSuccess,
    backupSize,
    tlsCertificateExpiry,
    traceSpans: counter(
      "trace_spans_total",
      "Spans of traces: `exported` to the collector, `failed` to be sent, or `dropped` because too many were waiting.",
      ["outcome"],
    ),
    eventLoopLag: histogram("event_loop_lag_seconds", "How late a timer fires.", fastBuckets),
  };
}

export type Metrics = ReturnType<typeof createMetrics>;
