import { Counter, Gauge, Histogram, Registry } from "prom-client";
import { registerProcessMetrics } from "./process-metrics.ts";

const fastBuckets = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];
/** OpenTelemetry's GenAI conventions name these for every duration of a model call. */
const modelBuckets = [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92];

/** Every metric that Parley exposes: the one home of their names. No ids, no raw paths, no error texts as labels. */
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

  gauge("build_info", "Always 1; the labels tell what runs.", ["version", "commit"]).set(
    { version: build.version, commit: build.commit },
    1,
  );
  const tlsCertificateExpiry = gauge(
    "tls_certificate_expiry_timestamp_seconds",
    "When the certificate that is served expires, in seconds since 1970; no value without TLS.",
  );
  tlsCertificateExpiry.remove();
  const backupLastSuccess = gauge(
    "backup_last_success_timestamp_seconds",
    "When the last scheduled backup succeeded, in seconds since 1970; no value before the first one.",
  );
  backupLastSuccess.remove();
  const backupSize = gauge("backup_size_bytes", "Size of the last scheduled backup; no value before the first one.");
  backupSize.remove();
  const pushed = new Map<string, number>();
  const wsFrames = new Counter({
    name: "parley_ws_frames_total",
    help: "WebSocket frames.",
    labelNames: ["direction", "type"] as const,
    registers,
    collect() {
      for (const [type, frames] of pushed) this.inc({ direction: "out", type }, frames);
      pushed.clear();
    },
  });

  return {
    registry,
    httpRequestDuration: histogram("http_request_duration_seconds", "Time to answer a request.", fastBuckets, [
      "method",
      "route",
      "status",
    ]),
    wsConnections: gauge("ws_connections", "WebSocket connections open now."),
    wsFrames,
    /** Counts frames to listeners. Asked for each piece of each answer: added up here, and handed over when asked. */
    countPushes(type: string, listeners: number): void {
      pushed.set(type, (pushed.get(type) ?? 0) + listeners);
    },
    messages: counter("messages_total", "Messages stored.", ["role"]),
    messageCommitDuration: histogram(
      "message_commit_duration_seconds",
      "Time from the arrival of a message to its commit.",
      fastBuckets,
    ),
    generations: counter("generations_total", "Runs of a model that ended.", ["model", "outcome"]),
    generationFirstToken: histogram(
      "generation_first_token_seconds",
      "Time from the start of a run to its first text.",
      modelBuckets,
      ["model"],
    ),
    generationDuration: histogram("generation_duration_seconds", "Time of a run of a model.", modelBuckets, ["model"]),
    aiTokens: counter(
      "ai_tokens_total",
      "Tokens of requests to models, as they are stored and charged: `kind` is `input`, `output`, or `reasoning`, which is a part of `output`.",
      ["model", "kind"],
    ),
    aiFailovers: counter("ai_failovers_total", "Moves from one model to the next.", ["from", "to", "reason"]),
    aiRepeatedRequests: counter(
      "ai_repeated_requests_total",
      "Requests sent once more, because the provider had closed the reused connection without a response.",
      ["provider"],
    ),
    aiCostUsd: counter("ai_cost_usd_total", "US dollars that answers have cost, as far as prices are known.", [
      "model",
    ]),
    aiModelAvailable: gauge("ai_model_available", "1, or 0 while the model's circuit breaker is open.", ["model"]),
    budgetRejections: counter("budget_rejections_total", "Answers refused because a budget is used up.", ["period"]),
    quotaRejections: counter("quota_rejections_total", "Requests and frames refused because a quota is used up.", [
      "quota",
    ]),
    cacheRequests: counter("cache_requests_total", "Cache lookups.", ["cache", "result"]),
    cacheBytes: gauge("cache_bytes", "Approximate bytes of cached responses.", ["cache"]),
    dbPoolConnections: gauge(
      "db_pool_connections",
      "Database connections by state, statements that wait for one, and the maximum.",
      ["state"],
    ),
    dbPoolWait: histogram("db_pool_wait_seconds", "Time that statements and transactions waited for a connection.", [
      0.0001,
      ...fastBuckets,
    ]),
    rateLimited: counter("rate_limited_total", "Requests and frames that a limit refused.", ["limit"]),
    analyticsRefreshDuration: histogram(
      "analytics_refresh_duration_seconds",
      "Time of a step that counts new and changed messages for analytics.",
      fastBuckets,
    ),
    busMessages: counter(
      "bus_messages_total",
      "Messages between instances: out, in, or dropped before they were sent.",
      ["direction"],
    ),
    busHealthy: gauge(
      "bus_healthy",
      "1 while messages of other instances arrive at once; 0 while the database stands in.",
    ),
    webhookDeliveries: counter("webhook_deliveries_total", "Attempts to deliver webhooks.", ["outcome"]),
    backups: counter("backups_total", "Scheduled backups that this instance has made or failed to make.", ["outcome"]),
    backupLastSuccess,
    backupSize,
    tlsCertificateExpiry,
    eventLoopLag: histogram("event_loop_lag_seconds", "How late a timer fires.", fastBuckets),
  };
}

export type Metrics = ReturnType<typeof createMetrics>;
