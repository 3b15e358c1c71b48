/** Series with their values, one for each step, in promtool's notation. */
type Series = Record<string, string>;

export type AlertCase = {
  /** The minutes between two values, 1 by default. */
  stepMin?: number;
  /** Series that exceed the alert's limit for `exceededMin` minutes, then return to normal. */
  firingSeries: Series;
  exceededMin: number;
  /** The minute at which the alert must not fire yet. Omitted if the rule has no `for`. */
  earlyMin?: number;
  /** The minute at which the alert must be resolved. */
  resolvedMin: number;
  /** Series that stay just within the alert's limit. */
  quietSeries: Series;
};

const formatHttpSeries = (status: string) =>
  `parley_http_request_duration_seconds_count{instance="a",method="GET",route="/version",status="${status}"}`;
const formatBucketSeries = (metric: string, le: string, labels = "") =>
  `${metric}_bucket{instance="a",${labels}le="${le}"}`;
const formatGenerationsSeries = (outcome: string) =>
  `parley_generations_total{instance="a",model="openai/x",outcome="${outcome}"}`;
const formatWebhooksSeries = (outcome: string) => `parley_webhook_deliveries_total{instance="a",outcome="${outcome}"}`;
const formatModelSeries = (name: string) => `parley_ai_model_available{instance="a",model="${name}"}`;

/** Returns a histogram with 60 observations a minute, which are above `le` for `slowMin` minutes, and below `le` after that. */
const createSlowThenFastHistogram = (
  metric: string,
  le: string,
  slowMin: number,
  fastMin: number,
  labels = "",
): Series => ({
  [formatBucketSeries(metric, le, labels)]: `0x${slowMin} 0+60x${fastMin}`,
  [formatBucketSeries(metric, "64", labels)]: `0+60x${slowMin} ${60 * slowMin}+60x${fastMin}`,
  [formatBucketSeries(metric, "+Inf", labels)]: `0+60x${slowMin} ${60 * slowMin}+60x${fastMin}`,
});
/** Returns a histogram with 60 observations a minute below `le`. */
const createFastHistogram = (metric: string, le: string, minutes: number, labels = ""): Series => ({
  [formatBucketSeries(metric, le, labels)]: `0+60x${minutes}`,
  [formatBucketSeries(metric, "+Inf", labels)]: `0+60x${minutes}`,
});
/** Returns a counter that rises by `firstRate` per minute for `firstMin` minutes, and by `secondRate` after that. */
const createCounter = (firstRate: number, firstMin: number, secondRate: number, secondMin: number) =>
  `0+${firstRate}x${firstMin} ${firstRate * firstMin}+${secondRate}x${secondMin}`;
const DAY_MIN = 24 * 60;

/** For each alert, series that make it fire and resolve, and series that don't make it fire. */
export const alertCases: Record<string, AlertCase> = {
  ParleyDown: {
    firingSeries: { 'up{job="parley",instance="a"}': "0x10 1x10" },
    exceededMin: 5,
    earlyMin: 1,
    resolvedMin: 12,
    quietSeries: { 'up{job="parley",instance="a"}': "1x9 0x1 1x20", 'up{job="other",instance="b"}': "0x30" },
  },
  ParleyServerErrors: {
    firingSeries: {
      [formatHttpSeries("200")]: createCounter(90, 20, 100, 40),
      [formatHttpSeries("503")]: createCounter(10, 20, 0, 40),
    },
    exceededMin: 20,
    earlyMin: 3,
    resolvedMin: 40,
    quietSeries: {
      [formatHttpSeries("200")]: "0+96x60",
      [formatHttpSeries("503")]: "0+4x60",
      [formatHttpSeries("404")]: "0+50x60",
    },
  },
  ParleySlowCommits: {
    firingSeries: createSlowThenFastHistogram("parley_message_commit_duration_seconds", "0.5", 30, 40),
    exceededMin: 30,
    earlyMin: 5,
    resolvedMin: 50,
    quietSeries: createFastHistogram("parley_message_commit_duration_seconds", "0.5", 60),
  },
  ParleyAnswersFail: {
    firingSeries: {
      [formatGenerationsSeries("complete")]: createCounter(8, 40, 10, 60),
      [formatGenerationsSeries("failed")]: createCounter(2, 40, 0, 60),
    },
    exceededMin: 40,
    earlyMin: 5,
    resolvedMin: 70,
    quietSeries: {
      [formatGenerationsSeries("complete")]: "0+91x90",
      [formatGenerationsSeries("failed")]: "0+9x90",
      [formatGenerationsSeries("cancelled")]: "0+50x90",
    },
  },
  ParleyModelUnavailable: {
    firingSeries: { [formatModelSeries("openai/x")]: "0x20 1x20", [formatModelSeries("openai/y")]: "1x40" },
    exceededMin: 15,
    earlyMin: 3,
    resolvedMin: 25,
    quietSeries: {
      [formatModelSeries("openai/x")]: "0x4 1x10 0x4 1x20",
      'parley_ai_model_available{instance="b",model="openai/x"}': "1x40",
    },
  },
  ParleyNoModelAvailable: {
    firingSeries: { [formatModelSeries("openai/x")]: "0x20 1x20", [formatModelSeries("openai/y")]: "0x20 0x20" },
    exceededMin: 15,
    earlyMin: 1,
    resolvedMin: 25,
    quietSeries: { [formatModelSeries("openai/x")]: "0x40", [formatModelSeries("openai/y")]: "1x40" },
  },
  ParleySlowFirstToken: {
    firingSeries: createSlowThenFastHistogram(
      "parley_generation_first_token_seconds",
      "10.24",
      40,
      60,
      'model="openai/x",',
    ),
    exceededMin: 40,
    earlyMin: 10,
    resolvedMin: 70,
    quietSeries: createFastHistogram("parley_generation_first_token_seconds", "10.24", 80, 'model="openai/x",'),
  },
  ParleyDatabasePoolExhausted: {
    firingSeries: { 'parley_db_pool_connections{instance="a",state="waiting"}': "20x20 0x20" },
    exceededMin: 15,
    earlyMin: 3,
    resolvedMin: 25,
    quietSeries: {
      'parley_db_pool_connections{instance="a",state="waiting"}': "20x3 0x3 5x30",
      'parley_db_pool_connections{instance="a",state="active"}': "34x40",
    },
  },
  ParleyBusUnhealthy: {
    firingSeries: { 'parley_bus_healthy{instance="a"}': "0x20 1x20" },
    exceededMin: 15,
    earlyMin: 3,
    resolvedMin: 25,
    quietSeries: { 'parley_bus_healthy{instance="a"}': "0x3 1x40" },
  },
  ParleyEventLoopBlocked: {
    firingSeries: createSlowThenFastHistogram("parley_event_loop_lag_seconds", "0.25", 30, 40),
    exceededMin: 30,
    earlyMin: 5,
    resolvedMin: 50,
    quietSeries: createFastHistogram("parley_event_loop_lag_seconds", "0.1", 60),
  },
  ParleyHighMemory: {
    firingSeries: { 'process_resident_memory_bytes{job="parley",instance="a"}': "900000000x40 300000000x20" },
    exceededMin: 30,
    earlyMin: 10,
    resolvedMin: 50,
    quietSeries: {
      'process_resident_memory_bytes{job="parley",instance="a"}': "800000000x60",
      'process_resident_memory_bytes{job="postgres",instance="b"}': "5000000000x60",
    },
  },
  ParleyFileDescriptors: {
    firingSeries: {
      'process_open_fds{job="parley",instance="a"}': "900x20 100x20",
      'process_max_fds{job="parley",instance="a"}': "1024x40",
    },
    exceededMin: 15,
    earlyMin: 3,
    resolvedMin: 25,
    quietSeries: {
      'process_open_fds{job="parley",instance="a"}': "800x40",
      'process_max_fds{job="parley",instance="a"}': "1024x40",
    },
  },
  ParleyRestarts: {
    firingSeries: { 'process_start_time_seconds{job="parley",instance="a"}': "1x3 2x3 3x3 4x80" },
    exceededMin: 12,
    resolvedMin: 60,
    quietSeries: { 'process_start_time_seconds{job="parley",instance="a"}': "1x3 2x3 3x80" },
  },
  ParleyRateLimiting: {
    firingSeries: { 'parley_rate_limited_total{instance="a",limit="frames"}': createCounter(120, 40, 0, 40) },
    exceededMin: 35,
    earlyMin: 10,
    resolvedMin: 60,
    quietSeries: { 'parley_rate_limited_total{instance="a",limit="frames"}': "0+50x80" },
  },
  ParleyWebhooksFail: {
    firingSeries: {
      [formatWebhooksSeries("delivered")]: createCounter(2, 90, 10, 90),
      [formatWebhooksSeries("retried")]: createCounter(8, 90, 0, 90),
    },
    exceededMin: 80,
    earlyMin: 20,
    resolvedMin: 150,
    quietSeries: { [formatWebhooksSeries("delivered")]: "0+6x160", [formatWebhooksSeries("retried")]: "0+4x160" },
  },
  ParleyBackupFailed: {
    firingSeries: { 'parley_backups_total{instance="a",outcome="failure"}': "0x10 1x500" },
    exceededMin: 30,
    resolvedMin: 400,
    quietSeries: {
      'parley_backups_total{instance="a",outcome="failure"}': "1x500",
      'parley_backups_total{instance="a",outcome="success"}': "0+1x500",
    },
  },
  ParleyBackupOld: {
    // The second backup is made two days after the first.
    stepMin: 30,
    firingSeries: { 'parley_backup_last_success_timestamp_seconds{instance="a"}': `1x96 ${2 * DAY_MIN * 60}x10` },
    exceededMin: 2 * DAY_MIN - 60,
    earlyMin: DAY_MIN,
    resolvedMin: 2 * DAY_MIN + 60,
    // A different instance makes the backups.
    quietSeries: {
      'parley_backup_last_success_timestamp_seconds{instance="a"}': "1x110",
      'parley_backup_last_success_timestamp_seconds{instance="b"}': "0+1800x110",
    },
  },
  ParleyCertificateExpires: {
    firingSeries: { 'parley_tls_certificate_expiry_timestamp_seconds{instance="a"}': `864000x30 8640000x30` },
    exceededMin: 20,
    resolvedMin: 40,
    quietSeries: { 'parley_tls_certificate_expiry_timestamp_seconds{instance="a"}': "1300000x60" },
  },
  ParleyTracesLost: {
    firingSeries: { 'parley_trace_spans_total{instance="a",outcome="dropped"}': `0+10x40 400x40` },
    exceededMin: 35,
    earlyMin: 10,
    resolvedMin: 60,
    quietSeries: {
      'parley_trace_spans_total{instance="a",outcome="dropped"}': "400x80",
      'parley_trace_spans_total{instance="a",outcome="exported"}': "0+100x80",
    },
  },
};
