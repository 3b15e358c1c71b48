import type { Log } from "../lib/log.ts";
import { createAnswer, type Resume, restartTurn } from "./answer.ts";
import { sleep } from "./backoff.ts";
import type { Breaker } from "./breaker.ts";
import type { ChainPart } from "./chain-part.ts";
import { createLedger } from "./ledger.ts";
import { type Leg, type LegOptions, type LegRequest, startLeg } from "./leg.ts";
import { createPlan } from "./plan.ts";
import type { PriceTable } from "./pricing.ts";
import type { ProviderError } from "./provider.ts";
import { createProviderError } from "./provider-error.ts";

export type RunOptions = LegOptions & {
  breakers: ReadonlyMap<string, Breaker>;
  maxRetries: number;
  backoffBaseMs: number;
  prices: PriceTable;
  log: Log;
};

export type RunRequest = LegRequest & {
  /** The models to ask, in order. */
  order: readonly string[];
  resume?: Resume | null;
};

/** One run of the chain, from the request to the last part; see `ChainPart`. */
export async function* run(options: RunOptions, request: RunRequest): AsyncGenerator<ChainPart, void, undefined> {
  const { messages, signal, resume } = request;
  const { breakers, maxRetries, backoffBaseMs, observe, log } = options;
  const ledger = createLedger(messages, options.prices, observe.onCost);
  const plan = createPlan({ models: request.order, breakers, maxRetries, backoffBaseMs });
  const answer = createAnswer(resume);
  let failed: { model: string; error: ProviderError } | null = null;

  while (!signal.aborted) {
    const turn = plan.next();
    if (!turn) break;
    const { model, pass } = turn;
    let leg: Leg | null = null;
    try {
      await sleep(turn.delayMs, signal);
      if (signal.aborted) break;
      if (failed && failed.model !== model) observe.onFailover?.(failed.model, model, failed.error.code);
      leg = startLeg(options, request, answer, { model, pass, entry: ledger.open(model) });
      while (leg.outcome() === null) for (const part of await leg.read()) yield part;
      leg.close();
      const outcome = leg.outcome();
      if (outcome === null || outcome.type === "aborted") break;
      if (outcome.type === "finish") {
        const { reason, toolCalls } = outcome;
        yield { type: "finish", model, reason, toolCalls, models: answer.models, ...ledger.close() };
        return;
      }
      failed = { model, error: outcome.error };
      const { code, cause, retryAfterMs } = outcome.error;
      log.warn({ model, code, cause, retry_after_ms: retryAfterMs, shown: answer.shown.length }, "model failed");
      plan.fail(model, outcome.error, answer.shown.length > answer.turnStart);
      if (!outcome.isContinuable) restartTurn(answer);
      answer.opening ??= "loud";
    } finally {
      // Also when the caller leaves the loop at one of the yields above.
      leg?.close();
      pass.leave();
    }
  }
  if (signal.aborted) {
    yield { type: "aborted", models: answer.models, ...ledger.close() };
    return;
  }
  const { code, detail } = failed?.error ?? createProviderError("provider_unavailable", "no model left");
  yield { type: "error", code, detail, models: answer.models, ...ledger.close() };
}
