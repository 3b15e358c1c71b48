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
import { createSendSpans } from "./send-spans.ts";
import { createSpanQueue, type SpanOutcome } from "./span-queue.ts";
import { createTracing, type Tracing } from "./tracing.ts";

/** Characters of a span's attribute; longer ones are cut. */
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
  /** Share of traces for the `traceidratio` samplers, 0 to 1. */
  ratio: number;
  /** What describes this process, such as `service.name`. */
  resource: Readonly<Record<string, string>>;
  version: string;
  spansMax: number;
  delayMs: number;
  fetch: Fetch;
  onSpans(outcome: SpanOutcome, count: number): void;
  onFailure(reason: string): void;
};

export type RunningTracing = Tracing & {
  /** Sends the remaining spans for at most `timeoutMs`, then gives up on the rest. */
  stop(timeoutMs: number): Promise<void>;
};

/** Starts to record spans and to send them to a collector. Import it only where tracing is on: it loads the SDK. */
export function startTracing(options: TracingOptions): RunningTracing {
  const { url, headers, timeoutMs, fetch, onFailure, spansMax, delayMs, onSpans } = options;
  const queue = createSpanQueue({
    spansMax,
    delayMs,
    onSpans,
    send: createSendSpans({ url, headers, timeoutMs, fetch, onFailure }),
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
