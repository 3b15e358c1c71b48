import type { Log } from "../../lib/log.ts";
import type { AnswerPart, RunEnd } from "../answer-part.ts";
import { closeAnswer, createAnswerState, type Resume, restartStep } from "../attempt/answer.ts";
import { type AttemptOptions, type AttemptRequest, makeAttempt } from "../attempt/attempt.ts";
import type { ProviderError, PushPart } from "../provider.ts";
import { createProviderError } from "../provider-error.ts";
import { createAttemptOrder } from "./attempt-order.ts";
import { sleep } from "./backoff.ts";
import { createBill } from "./bill.ts";
import type { Breaker } from "./breaker.ts";

export type RunOptions = AttemptOptions & {
  breakers: ReadonlyMap<string, Breaker>;
  maxRetries: number;
  backoffBaseMs: number;
  log: Log;
};

export type OrderedRequest = AttemptRequest & {
  /** The models to ask, in order. */
  order: readonly string[];
  resume?: Resume | null;
};

/** One run: makes attempts until one of them ends the answer, or no model is left. */
export async function run(options: RunOptions, request: OrderedRequest, push: PushPart<AnswerPart>): Promise<RunEnd> {
  const { signal } = request;
  const { breakers, maxRetries, backoffBaseMs, observe, log } = options;
  const bill = createBill(options.catalogue.prices, observe.onCost);
  const attempts = createAttemptOrder({ models: request.order, breakers, maxRetries, backoffBaseMs });
  const answer = createAnswerState(request.resume);
  let failed: { model: string; error: ProviderError } | null = null;

  while (!signal.aborted) {
    const next = attempts.next();
    if (!next) break;
    const { model, report, delayMs } = next;
    try {
      await sleep(delayMs, signal);
      if (signal.aborted) break;
      if (failed && failed.model !== model) observe.onFailover?.(failed.model, model, failed.error.code);
      const outcome = await makeAttempt(options, request, answer, { model, report }, push);
      bill.add(model, outcome.usage);
      if (outcome.type === "aborted") break;
      if (outcome.type === "finish") {
        const { type, reason, toolCalls } = outcome;
        return { type, model, reason, toolCalls, models: answer.models, ...bill.sum() };
      }
      failed = { model, error: outcome.error };
      const { code, cause, retryAfterMs } = outcome.error;
      log.warn({ model, code, cause, retry_after_ms: retryAfterMs, shown: answer.shown.length }, "model failed");
      attempts.fail(model, outcome.error, answer.shown.length > answer.stepStart);
      if (!outcome.isContinuable) restartStep(answer);
      closeAnswer(answer);
    } finally {
      report.leave();
    }
  }
  if (signal.aborted) return { type: "aborted", models: answer.models, ...bill.sum() };
  const { code, detail } = failed?.error ?? createProviderError("provider_unavailable", "no model left");
  return { type: "error", code, detail, models: answer.models, ...bill.sum() };
}
