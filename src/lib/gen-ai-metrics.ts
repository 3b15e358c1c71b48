import { Histogram, type Registry } from "prom-client";

/** Histogram buckets for the duration of model requests, from OpenTelemetry's GenAI conventions. */
export const modelBuckets = [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92];
/** Histogram buckets for token counts, from OpenTelemetry's GenAI conventions. */
const tokenBuckets = [
  1, 4, 16, 64, 256, 1_024, 4_096, 16_384, 65_536, 262_144, 1_048_576, 4_194_304, 16_777_216, 67_108_864,
];

const requestLabels = ["gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model"] as const;

export type RequestLabels = Record<(typeof requestLabels)[number], string>;

/**
 * Creates the metrics of OpenTelemetry's GenAI conventions, with their standard names in Prometheus. Each attempt is one
 * observation. The model name in the response isn't a label, because providers can send any name.
 */
export function createGenAiMetrics(registry: Registry) {
  const registers = [registry];
  const createHistogram = <L extends string>(name: string, help: string, buckets: number[], labelNames: readonly L[]) =>
    new Histogram<L>({ name: `gen_ai_client_${name}`, help, labelNames, buckets, registers });
  const timePerOutputChunk = createHistogram(
    "operation_time_per_output_chunk_seconds",
    "Time between two chunks of a response.",
    modelBuckets,
    requestLabels,
  );

  return {
    operationDuration: createHistogram("operation_duration_seconds", "Duration of model requests.", modelBuckets, [
      ...requestLabels,
      "error_type",
    ]),
    tokenUsage: createHistogram(
      "token_usage",
      "Tokens used by model requests, as reported by the provider; `gen_ai_token_type` is `input` or `output`.",
      tokenBuckets,
      [...requestLabels, "gen_ai_token_type"],
    ),
    timeToFirstChunk: createHistogram(
      "operation_time_to_first_chunk_seconds",
      "Time from a request to the first chunk of its response: text, reasoning or a tool call.",
      modelBuckets,
      requestLabels,
    ),
    /**
     * Returns a function that observes the seconds between two chunks. The labels are bound once, because the function is called for
     * every chunk.
     */
    createChunkObserver(labels: RequestLabels): (seconds: number) => void {
      return timePerOutputChunk.labels(labels).observe;
    },
  };
}
