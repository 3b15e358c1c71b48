import type { AttemptEnd, AttemptObserver, ChainObserver } from "../ai/observer.ts";
import type { Metrics } from "../lib/metrics.ts";
import { failSpan, type Span, SpanKind, type Tracing } from "../lib/tracing/tracing.ts";

type Dependencies = { metrics: Pick<Metrics, "genAi">; tracing: Tracing | null };

/**
 * Creates an observer that records each attempt according to OpenTelemetry's GenAI conventions: in metrics, and as a span if
 * tracing is on. Message content and estimated token counts aren't recorded.
 */
export function createAttemptObserver({ metrics, tracing }: Dependencies): NonNullable<ChainObserver["onAttempt"]> {
  return (model, logContext) => {
    const slash = model.indexOf("/");
    const provider = model.slice(0, slash);
    const name = model.slice(slash + 1);
    const labels = {
      gen_ai_operation_name: "chat",
      gen_ai_provider_name: provider,
      gen_ai_request_model: name,
    } as const;
    const { genAi } = metrics;
    const startedAtMs = performance.now();
    let lastChunkAtMs = 0;
    const span = tracing?.start(`chat ${name}`, {
      kind: SpanKind.CLIENT,
      attributes: {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": provider,
        "gen_ai.request.model": name,
        ...(logContext?.conversation_id && { "gen_ai.conversation.id": logContext.conversation_id }),
        ...(logContext?.task && { "parley.task": logContext.task }),
      },
    });
    const observeChunkInterval = genAi.createChunkObserver(labels);

    const observer: AttemptObserver = {
      onChunk() {
        const nowMs = performance.now();
        if (lastChunkAtMs > 0) observeChunkInterval((nowMs - lastChunkAtMs) / 1_000);
        else {
          genAi.timeToFirstChunk.observe(labels, (nowMs - startedAtMs) / 1_000);
          span?.addEvent("gen_ai.first_chunk");
          span?.setAttribute("gen_ai.response.time_to_first_chunk", (nowMs - startedAtMs) / 1_000);
        }
        lastChunkAtMs = nowMs;
      },
      onEnd(end) {
        const errorLabel = end.code === null ? {} : { error_type: end.code };
        genAi.operationDuration.observe({ ...labels, ...errorLabel }, (performance.now() - startedAtMs) / 1_000);
        if (end.usage && !end.usage.estimated) {
          genAi.tokenUsage.observe({ ...labels, gen_ai_token_type: "input" }, end.usage.input_tokens);
          genAi.tokenUsage.observe({ ...labels, gen_ai_token_type: "output" }, end.usage.output_tokens);
        }
        if (span) endSpan(span, end);
      },
    };
    return observer;
  };
}

function endSpan(span: Span, { outcome, code, finishReason, usage }: AttemptEnd): void {
  if (finishReason) span.setAttribute("gen_ai.response.finish_reasons", [finishReason]);
  if (usage && !usage.estimated) {
    span.setAttributes({
      "gen_ai.usage.input_tokens": usage.input_tokens,
      "gen_ai.usage.output_tokens": usage.output_tokens,
      "gen_ai.usage.cache_read.input_tokens": usage.cached_input_tokens,
    });
  }
  if (outcome === "aborted") span.setAttribute("parley.attempt.aborted", true);
  if (code !== null) failSpan(span, code);
  span.end();
}
