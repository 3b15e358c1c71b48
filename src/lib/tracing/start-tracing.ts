import { resourceFromAttributes } from "@opentelemetry/resources";
import {
  AlwaysOffSampler,
  AlwaysOnSampler,
  ParentBasedSampler,
  type Sampler,
  TraceIdRatioBasedSampler,
  TracerProvider,
} from "@opentelemetry/sdk-trace";
import type { Fetch } from "../outgoing/create-fetch.ts";
import { createSpanSender } from "./send-spans.ts";
import { createSpanQueue, type SpanOutcome } from "./span-queue.ts";
import { createTracing, type Tracing } from "./tracing.ts";

/** Maximum length of a span's attribute. Longer ones are truncated. */
const ATTRIBUTE_CHARS_MAX = 1_024;

type SamplerName =
  | "always_on"
  | "always_off"
  | "traceidratio"
  | "parentbased_always_on"
  | "parentbased_always_off"
  | "parentbased_traceidratio";

export type TracingOptions = {
  url: string;
  headers: Readonly<Record<string, string>>;
  timeoutMs: number;
  sampler: SamplerName;
  /** The share of traces to record with the `traceidratio` samplers, from 0 to 1. */
  ratio: number;
  /** Attributes that describe this process, such as `service.name`. */
  resource: Readonly<Record<string, string>>;
  version: string;
  spansMax: number;
  delayMs: number;
  fetch: Fetch;
  onSpans(outcome: SpanOutcome, count: number): void;
  onFailure(reason: string): void;
};

export type RunningTracing = Tracing & {
  /** Tries for at most `timeoutMs` to send the remaining spans. Discards the spans that weren't sent in time. */
  stop(timeoutMs: number): Promise<void>;
};

/** Starts recording spans and sending them to a collector. Importing this file loads the SDK, so import it only if needed. */
export function startTracing(options: TracingOptions): RunningTracing {
  const { url, headers, timeoutMs, fetch, onFailure, spansMax, delayMs, onSpans } = options;
  const queue = createSpanQueue({
    spansMax,
    delayMs,
    onSpans,
    send: createSpanSender({ url, headers, timeoutMs, fetch, onFailure }),
  });
  const provider = new TracerProvider({
    resource: resourceFromAttributes(options.resource),
    sampler: createSampler(options.sampler, options.ratio),
    spanLimits: { attributeValueLengthLimit: ATTRIBUTE_CHARS_MAX },
    spanProcessors: [queue],
  });
  return {
    ...createTracing(provider.getTracer("parley", options.version)),
    async stop(timeoutMs) {
      await Promise.race([queue.forceFlush(), Bun.sleep(timeoutMs)]);
      await queue.shutdown();
    },
  };
}

function createSampler(name: SamplerName, ratio: number): Sampler {
  const base = name.replace("parentbased_", "");
  const sampler =
    base === "always_on"
      ? new AlwaysOnSampler()
      : base === "always_off"
        ? new AlwaysOffSampler()
        : new TraceIdRatioBasedSampler(ratio);
  return name === base ? sampler : new ParentBasedSampler({ root: sampler });
}
