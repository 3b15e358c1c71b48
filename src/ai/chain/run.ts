import type { AnswerPart, RunEnd } from "../answer-part.ts";
import { createAnswerState, endFailedAttempt, type ResumePoint, restartStep } from "../attempt/answer.ts";
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
  failureLog: FailureLog;
};

export type OrderedRequest = AttemptRequest & {
  /** The models to try, in order. */
  order: readonly string[];
  resume?: ResumePoint | null;
};

/** Makes attempts until one completes the answer, no model is left, or the deadline passes. */
export async function run(options: RunOptions, request: OrderedRequest, push: PushPart<AnswerPart>): Promise<RunEnd> {
  const { signal, deadlineMs } = request;
  const { breakers, maxRetries, backoffBaseMs, observer, failureLog } = options;
  const bill = createBill(options.catalog.prices, observer);
  const attemptOrder = createAttemptOrder({ models: request.order, breakers, maxRetries, backoffBaseMs });
  const answer = createAnswerState(request.resume);
  let lastModel: string | null = null;
  let lastFailure: { model: string; error: ProviderError } | null = null;
  let isExpired = false;

  while (!signal.aborted && !isExpired) {
    const nextAttempt = attemptOrder.next();
    if (!nextAttempt) break;
    const { model, report, delayMs } = nextAttempt;
    try {
      const remainingMs = deadlineMs - performance.now();
      isExpired = delayMs >= remainingMs;
      await sleep(Math.min(delayMs, remainingMs), signal);
      if (signal.aborted || isExpired) break;
      if (lastFailure && lastFailure.model !== model)
        observer.onFailover?.(lastFailure.model, model, lastFailure.error.code);
      lastModel = model;
      const outcome = await makeAttempt(options, request, answer, { model, report }, push);
      bill.add(model, outcome.usage);
      if (outcome.type === "aborted") break;
      if (outcome.type === "finish") {
        const { type, reason, toolCalls, thinking } = outcome;
        return { type, model, reason, toolCalls, thinking, models: answer.models, ...bill.getTotal() };
      }
      lastFailure = { model, error: outcome.type === "failed" ? outcome.error : createDeadlineError() };
      failureLog.record(lastFailure, request.logContext, answer.text.length);
      isExpired = outcome.type === "expired";
      if (outcome.type === "expired") break;
      attemptOrder.recordFailure(model, outcome.error, answer.text.length > answer.stepStart);
      // One model can't continue another model's JSON.
      if (!outcome.isContinuable || request.options?.format) restartStep(answer);
      endFailedAttempt(answer);
    } finally {
      report.release();
    }
  }
  const costs = { models: answer.models, ...bill.getTotal() };
  if (signal.aborted) return { type: "aborted", model: lastModel, ...costs };
  const error = isExpired ? createDeadlineError() : lastFailure?.error;
  return { type: "error", ...describeFailure(error), model: lastModel, ...costs };
}

const createDeadlineError = (): ProviderError =>
  createProviderError("provider_timeout", "the whole answer took too long");

/** Returns the fields of the last failure that are safe for clients. */
function describeFailure(error = createProviderError("provider_unavailable", "no model left")) {
  const { retryable: _, cause: __, ...failure } = error;
  return failure;
}
