/** Values of a series, one for each step, in promtool's notation: `start+step x count`. */
type Series = Record<string, string>;

export type AlertCase = {
  /** Minutes from one value to the next; absent: 1. */
  stepMin?: number;
  /** Bad for `badMin` minutes, then good again. */
  fires: Series;
  badMin: number;
  /** When it must not fire yet, in minutes; absent: it has no `for`. */
  earlyMin?: number;
  /** When it must have resolved. */
  resolvedMin: number;
  /** The same things just within bounds, all the time. */
  quiet: Series;
};

const http = (status: string) =>
  `parley_http_request_duration_seconds_count{instance="a",method="GET",route="/version",status="${status}"}`;
const bucket = (metric: string, le: string, labels = "") => `${metric}_bucket{instance="a",${labels}le="${le}"}`;
const generations = (outcome: string) => `parley_generations_total{instance="a",model="openai/x",outcome="${outcome}"}`;
const webhooks = (outcome: string) => `parley_webhook_deliveries_total{instance="a",outcome="${outcome}"}`;
const model = (name: string) => `parley_ai_model_available{instance="a",model="${name}"}`;

/** A histogram whose observations are all below `le`, or all above it, in each minute: `60` a minute. */
const slowThenFast = (metric: string, le: string, badMin: number, goodMin: number, labels = ""): Series => ({
  [bucket(metric, le, labels)]: `0x${badMin} 0+60x${goodMin}`,
  [bucket(metric, "64", labels)]: `0+60x${badMin} ${60 * badMin}+60x${goodMin}`,
  [bucket(metric, "+Inf", labels)]: `0+60x${badMin} ${60 * badMin}+60x${goodMin}`,
});
const fast = (metric: string, le: string, minutes: number, labels = ""): Series => ({
  [bucket(metric, le, labels)]: `0+60x${minutes}`,
  [bucket(metric, "+Inf", labels)]: `0+60x${minutes}`,
});
/** A counter that rises by `bad` a minute, then by `good`. */
const rises = (bad: number, badMin: number, good: number, goodMin: number) =>
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
    fires: { [http("200")]: rises(90, 20, 100, 40), [http("503")]: rises(10, 20, 0, 40) },
    badMin: 20,
    earlyMin: 3,
    resolvedMin: 40,
    quiet: { [http("200")]: "0+96x60", [http("503")]: "0+4x60", [http("404")]: "0+50x60" },
  },
  ParleySlowCommits: {
    fires: slowThenFast("parley_message_commit_duration_seconds", "0.5", 30, 40),
    badMin: 30,
    earlyMin: 5,
    resolvedMin: 50,
    quiet: fast("parley_message_commit_duration_seconds", "0.5", 60),
  },
  ParleyAnswersFail: {
    fires: { [generations("complete")]: rises(8, 40, 10, 60), [generations("failed")]: rises(2, 40, 0, 60) },
    badMin: 40,
    earlyMin: 5,
    resolvedMin: 70,
    quiet: {
      [generations("complete")]: "0+91x90",
      [generations("failed")]: "0+9x90",
      [generations("cancelled")]: "0+50x90",
    },
  },
  ParleyModelUnavailable: {
    fires: { [model("openai/x")]: "0x20 1x20", [model("openai/y")]: "1x40" },
    badMin: 15,
    earlyMin: 3,
    resolvedMin: 25,
    quiet: {
      [model("openai/x")]: "0x4 1x10 0x4 1x20",
      'parley_ai_model_available{instance="b",model="openai/x"}': "1x40",
    },
  },
  ParleyNoModelAvailable: {
    fires: { [model("openai/x")]: "0x20 1x20", [model("openai/y")]: "0x20 0x20" },
    badMin: 15,
    earlyMin: 1,
    resolvedMin: 25,
    quiet: { [model("openai/x")]: "0x40", [model("openai/y")]: "1x40" },
  },
  ParleySlowFirstToken: {
    fires: slowThenFast("parley_generation_first_token_seconds", "10.24", 40, 60, 'model="openai/x",'),
    badMin: 40,
    earlyMin: 10,
    resolvedMin: 70,
    quiet: fast("parley_generation_first_token_seconds", "10.24", 80, 'model="openai/x",'),
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
    fires: slowThenFast("parley_event_loop_lag_seconds", "0.25", 30, 40),
    badMin: 30,
    earlyMin: 5,
    resolvedMin: 50,
    quiet: fast("parley_event_loop_lag_seconds", "0.1", 60),
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
    fires: { 'parley_rate_limited_total{instance="a",limit="frames"}': rises(120, 40, 0, 40) },
    badMin: 35,
    earlyMin: 10,
    resolvedMin: 60,
    quiet: { 'parley_rate_limited_total{instance="a",limit="frames"}': "0+50x80" },
  },
  ParleyWebhooksFail: {
    fires: { [webhooks("delivered")]: rises(2, 90, 10, 90), [webhooks("retried")]: rises(8, 90, 0, 90) },
    badMin: 80,
    earlyMin: 20,
    resolvedMin: 150,
    quiet: { [webhooks("delivered")]: "0+6x160", [webhooks("retried")]: "0+4x160" },
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
    // The first backup is at the beginning; the next one comes after two days.
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
