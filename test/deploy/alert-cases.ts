/** Series with their values, one for each step, in promtool's notation. */
type Series = Record<string, string>;

export type AlertCase = {
  /** Minutes between two values, 1 by default. */
  stepMin?: number;
  /** Series that exceed the alert's limit for `badMin` minutes, then return to normal. */
  fires: Series;
  badMin: number;
  /** Minute when the alert must not fire yet. Absent if the rule has no `for`. */
  earlyMin?: number;
  /** Minute when the alert must be resolved. */
  resolvedMin: number;
  /** Series that stay just within the alert's limit. */
  quiet: Series;
};

const httpSeries = (status: string) =>
  `parley_http_request_duration_seconds_count{instance="a",method="GET",route="/version",status="${status}"}`;
const bucketSeries = (metric: string, le: string, labels = "") => `${metric}_bucket{instance="a",${labels}le="${le}"}`;
const generationsSeries = (outcome: string) =>
  `parley_generations_total{instance="a",model="openai/x",outcome="${outcome}"}`;
const webhooksSeries = (outcome: string) => `parley_webhook_deliveries_total{instance="a",outcome="${outcome}"}`;
const modelSeries = (name: string) => `parley_ai_model_available{instance="a",model="${name}"}`;

/** Returns a histogram with 60 observations a minute, which are above `le` for `badMin` minutes, then below `le`. */
const createSlowThenFast = (metric: string, le: string, badMin: number, goodMin: number, labels = ""): Series => ({
  [bucketSeries(metric, le, labels)]: `0x${badMin} 0+60x${goodMin}`,
  [bucketSeries(metric, "64", labels)]: `0+60x${badMin} ${60 * badMin}+60x${goodMin}`,
  [bucketSeries(metric, "+Inf", labels)]: `0+60x${badMin} ${60 * badMin}+60x${goodMin}`,
});
/** Returns a histogram with 60 observations a minute below `le`. */
const createFast = (metric: string, le: string, minutes: number, labels = ""): Series => ({
  [bucketSeries(metric, le, labels)]: `0+60x${minutes}`,
  [bucketSeries(metric, "+Inf", labels)]: `0+60x${minutes}`,
});
/** Returns a counter that rises by `bad` per minute, then by `good`. */
const createCounter = (bad: number, badMin: number, good: number, goodMin: number) =>
  `0+${bad}x${badMin} ${bad * badMin}+${good}x${goodMin}`;
const DAY_MIN = 24 * 60;

/** For each alert, series that make it fire and resolve, and series that don't. */
export const alertCases: Record<string, AlertCase> = {
  ParleyDown: {
    fires: { 'up{job="parley",instance="a"}': "0x10 1x10" },
    badMin: 5,
    earlyMin: 1,
    resolvedMin: 12,
    quiet: { 'up{job="parley",instance="a"}': "1x9 0x1 1x20", 'up{job="other",instance="b"}': "0x30" },
  },
  ParleyServerErrors: {
    fires: { [httpSeries("200")]: createCounter(90, 20, 100, 40), [httpSeries("503")]: createCounter(10, 20, 0, 40) },
    badMin: 20,
    earlyMin: 3,
    resolvedMin: 40,
    quiet: { [httpSeries("200")]: "0+96x60", [httpSeries("503")]: "0+4x60", [httpSeries("404")]: "0+50x60" },
  },
  ParleySlowCommits: {
    fires: createSlowThenFast("parley_message_commit_duration_seconds", "0.5", 30, 40),
    badMin: 30,
    earlyMin: 5,
    resolvedMin: 50,
    quiet: createFast("parley_message_commit_duration_seconds", "0.5", 60),
  },
  ParleyAnswersFail: {
    fires: {
      [generationsSeries("complete")]: createCounter(8, 40, 10, 60),
      [generationsSeries("failed")]: createCounter(2, 40, 0, 60),
    },
    badMin: 40,
    earlyMin: 5,
    resolvedMin: 70,
    quiet: {
      [generationsSeries("complete")]: "0+91x90",
      [generationsSeries("failed")]: "0+9x90",
      [generationsSeries("cancelled")]: "0+50x90",
    },
  },
  ParleyModelUnavailable: {
    fires: { [modelSeries("openai/x")]: "0x20 1x20", [modelSeries("openai/y")]: "1x40" },
    badMin: 15,
    earlyMin: 3,
    resolvedMin: 25,
    quiet: {
      [modelSeries("openai/x")]: "0x4 1x10 0x4 1x20",
      'parley_ai_model_available{instance="b",model="openai/x"}': "1x40",
    },
  },
  ParleyNoModelAvailable: {
    fires: { [modelSeries("openai/x")]: "0x20 1x20", [modelSeries("openai/y")]: "0x20 0x20" },
    badMin: 15,
    earlyMin: 1,
    resolvedMin: 25,
    quiet: { [modelSeries("openai/x")]: "0x40", [modelSeries("openai/y")]: "1x40" },
  },
  ParleySlowFirstToken: {
    fires: createSlowThenFast("parley_generation_first_token_seconds", "10.24", 40, 60, 'model="openai/x",'),
    badMin: 40,
    earlyMin: 10,
    resolvedMin: 70,
    quiet: createFast("parley_generation_first_token_seconds", "10.24", 80, 'model="openai/x",'),
  },
  ParleyDatabasePoolExhausted: {
    fires: { 'parley_db_pool_connections{instance="a",state="waiting"}': "20x20 0x20" },
    badMin: 15,
    earlyMin: 3,
    resolvedMin: 25,
    quiet: {
      'parley_db_pool_connections{instance="a",state="waiting"}': "20x3 0x3 5x30",
      'parley_db_pool_connections{instance="a",state="active"}': "34x40",
    },
  },
  ParleyBusUnhealthy: {
    fires: { 'parley_bus_healthy{instance="a"}': "0x20 1x20" },
    badMin: 15,
    earlyMin: 3,
    resolvedMin: 25,
    quiet: { 'parley_bus_healthy{instance="a"}': "0x3 1x40" },
  },
  ParleyEventLoopBlocked: {
    fires: createSlowThenFast("parley_event_loop_lag_seconds", "0.25", 30, 40),
    badMin: 30,
    earlyMin: 5,
    resolvedMin: 50,
    quiet: createFast("parley_event_loop_lag_seconds", "0.1", 60),
  },
  ParleyHighMemory: {
    fires: { 'process_resident_memory_bytes{job="parley",instance="a"}': "900000000x40 300000000x20" },
    badMin: 30,
    earlyMin: 10,
    resolvedMin: 50,
    quiet: {
      'process_resident_memory_bytes{job="parley",instance="a"}': "800000000x60",
      'process_resident_memory_bytes{job="postgres",instance="b"}': "5000000000x60",
    },
  },
  ParleyFileDescriptors: {
    fires: {
      'process_open_fds{job="parley",instance="a"}': "900x20 100x20",
      'process_max_fds{job="parley",instance="a"}': "1024x40",
    },
    badMin: 15,
    earlyMin: 3,
    resolvedMin: 25,
    quiet: {
      'process_open_fds{job="parley",instance="a"}': "800x40",
      'process_max_fds{job="parley",instance="a"}': "1024x40",
    },
  },
  ParleyRestarts: {
    fires: { 'process_start_time_seconds{job="parley",instance="a"}': "1x3 2x3 3x3 4x80" },
    badMin: 12,
    resolvedMin: 60,
    quiet: { 'process_start_time_seconds{job="parley",instance="a"}': "1x3 2x3 3x80" },
  },
  ParleyRateLimiting: {
    fires: { 'parley_rate_limited_total{instance="a",limit="frames"}': createCounter(120, 40, 0, 40) },
    badMin: 35,
    earlyMin: 10,
    resolvedMin: 60,
    quiet: { 'parley_rate_limited_total{instance="a",limit="frames"}': "0+50x80" },
  },
  ParleyWebhooksFail: {
    fires: {
      [webhooksSeries("delivered")]: createCounter(2, 90, 10, 90),
      [webhooksSeries("retried")]: createCounter(8, 90, 0, 90),
    },
    badMin: 80,
    earlyMin: 20,
    resolvedMin: 150,
    quiet: { [webhooksSeries("delivered")]: "0+6x160", [webhooksSeries("retried")]: "0+4x160" },
  },
  ParleyBackupFailed: {
    fires: { 'parley_backups_total{instance="a",outcome="failure"}': "0x10 1x500" },
    badMin: 30,
    resolvedMin: 400,
    quiet: {
      'parley_backups_total{instance="a",outcome="failure"}': "1x500",
      'parley_backups_total{instance="a",outcome="success"}': "0+1x500",
    },
  },
  ParleyBackupOld: {
    // The second backup is made two days after the first.
    stepMin: 30,
    fires: { 'parley_backup_last_success_timestamp_seconds{instance="a"}': `1x96 ${2 * DAY_MIN * 60}x10` },
    badMin: 2 * DAY_MIN - 60,
    earlyMin: DAY_MIN,
    resolvedMin: 2 * DAY_MIN + 60,
    // Another instance makes the backups.
    quiet: {
      'parley_backup_last_success_timestamp_seconds{instance="a"}': "1x110",
      'parley_backup_last_success_timestamp_seconds{instance="b"}': "0+1800x110",
    },
  },
  ParleyCertificateExpires: {
    fires: { 'parley_tls_certificate_expiry_timestamp_seconds{instance="a"}': `864000x30 8640000x30` },
    badMin: 20,
    resolvedMin: 40,
    quiet: { 'parley_tls_certificate_expiry_timestamp_seconds{instance="a"}': "1300000x60" },
  },
  ParleyTracesLost: {
    fires: { 'parley_trace_spans_total{instance="a",outcome="dropped"}': `0+10x40 400x40` },
    badMin: 35,
    earlyMin: 10,
    resolvedMin: 60,
    quiet: {
      'parley_trace_spans_total{instance="a",outcome="dropped"}': "400x80",
      'parley_trace_spans_total{instance="a",outcome="exported"}': "0+100x80",
    },
  },
};
