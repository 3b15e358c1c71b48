import type { AnswerPart, RunEnd } from "../answer-part.ts";
import { closeAnswer, createAnswerState, type Resume, restartStep } from "../attempt/answer.ts";
import { type AttemptOptions, type AttemptRequest, makeAttempt } from "../attempt/attempt.ts";
import type { ProviderError, PushPart } from "../provider.ts";
import { createProviderError } from "../provider-error.ts";
import { createAttemptOrder } from "./attempt-order.ts";
import { sleep } from "./backoff.ts";
import { createBill } from "./bill.ts";
import type { Breaker } from "./breaker.ts";
import type { FailureLog } from "./failure-log.ts";

export type RunOptions = AttemptOptions & {
  breakers: ReadonlyMap<string, Breaker>;
  maxRetries: number;
  backoffBaseMs: number;
  failures: FailureLog;
};

export type OrderedRequest = AttemptRequest & {
  /** The models to try, in order. */
  order: readonly string[];
  resume?: Resume | null;
};

/** One run: makes attempts until one completes the answer, no model is left, or the deadline passes. */
export async function run(options: RunOptions, request: OrderedRequest, push: PushPart<AnswerPart>): Promise<RunEnd> {
  const { signal, endsAtMs } = request;
  const { breakers, maxRetries, backoffBaseMs, observe, failures } = options;
  const bill = createBill(options.catalog.prices, observe);
  const attempts = createAttemptOrder({ models: request.order, breakers, maxRetries, backoffBaseMs });
  const answer = createAnswerState(request.resume);
  let lastModel: string | null = null;
  let failed: { model: string; error: ProviderError } | null = null;
  let isExpired = false;

  while (!signal.aborted && !isExpired) {
    const next = attempts.next();
    if (!next) break;
    const { model, report, delayMs } = next;
    try {
      const leftMs = endsAtMs - performance.now();
      isExpired = delayMs >= leftMs;
      await sleep(Math.min(delayMs, leftMs), signal);
      if (signal.aborted || isExpired) break;
      if (failed && failed.model !== model) observe.onFailover?.(failed.model, model, failed.error.code);
      lastModel = model;
      const outcome = await makeAttempt(options, request, answer, { model, report }, push);
      bill.add(model, outcome.usage);
      if (outcome.type === "aborted") break;
      if (outcome.type === "finish") {
        const { type, reason, toolCalls, thinking } = outcome;
        return { type, model, reason, toolCalls, thinking, models: answer.models, ...bill.sum() };
      }
      failed = { model, error: outcome.type === "failed" ? outcome.error : createExpiry() };
      failures.record(failed, request.about, answer.shown.length);
      isExpired = outcome.type === "expired";
      if (outcome.type === "expired") break;
      attempts.fail(model, outcome.error, answer.shown.length > answer.stepStart);
      // One model can't continue another model's JSON.
      if (!outcome.isContinuable || request.options?.format) restartStep(answer);
      closeAnswer(answer);
    } finally {
      report.leave();
    }
  }
  const account = { models: answer.models, ...bill.sum() };
  if (signal.aborted) return { type: "aborted", model: lastModel, ...account };
  const error = isExpired ? createExpiry() : failed?.error;
  return { type: "error", ...describeFailure(error), model: lastModel, ...account };
}

const createExpiry = (): ProviderError => createProviderError("provider_timeout", "the whole answer took too long");

/** The last failure as shown to the reader; absent: no model was tried. */
function describeFailure(error = createProviderError("provider_unavailable", "no model left")) {
  const { retryable: _, cause: __, ...failure } = error;
  return failure;
}
