import { Histogram, type Registry } from "prom-client";

/** Buckets from OpenTelemetry's GenAI conventions, for durations of model calls. */
export const modelBuckets = [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92];
/** The same for tokens. */
const tokenBuckets = [
  1, 4, 16, 64, 256, 1_024, 4_096, 16_384, 65_536, 262_144, 1_048_576, 4_194_304, 16_777_216, 67_108_864,
];

const requestLabels = ["gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model"] as const;

export type RequestLabels = Record<(typeof requestLabels)[number], string>;

/**
 * The metrics of OpenTelemetry's conventions for generative AI, under their standard names in Prometheus. One observation for
 * each request to a model (attempt), so a failover counts several times. The model that responded is not a label: providers
 * choose that name freely.
 */
export function createGenAiMetrics(registry: Registry) {
  const registers = [registry];
  const histogram = <L extends string>(name: string, help: string, buckets: number[], labelNames: readonly L[]) =>
    new Histogram<L>({ name: `gen_ai_client_${name}`, help, labelNames, buckets, registers });
  const timePerOutputChunk = histogram(
    "operation_time_per_output_chunk_seconds",
    "Time between two chunks of a response.",
    modelBuckets,
    requestLabels,
  );

  return {
    operationDuration: histogram("operation_duration_seconds", "Duration of requests to models.", modelBuckets, [
      ...requestLabels,
      "error_type",
    ]),
    tokenUsage: histogram(
      "token_usage",
      "Tokens of requests to models as reported by the provider: `gen_ai_token_type` is `input` or `output`.",
      tokenBuckets,
      [...requestLabels, "gen_ai_token_type"],
    ),
    timeToFirstChunk: histogram(
      "operation_time_to_first_chunk_seconds",
      "Time from a request to the first chunk of its response: text, reasoning or a tool call.",
      modelBuckets,
      requestLabels,
    ),
    /** Returns a function that observes the seconds between two chunks, which is called for each token of an answer. */
    createChunkTimer(labels: RequestLabels): (seconds: number) => void {
      return timePerOutputChunk.labels(labels).observe;
    },
  };
}
