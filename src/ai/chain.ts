import type { Log } from "../lib/log.ts";
import type { Resume } from "./answer.ts";
import { BACKOFF_BASE_MS } from "./backoff.ts";
import {
  type Breaker,
  type BreakerOptions,
  type BreakerState,
  createBreaker,
  defaultBreakerOptions,
} from "./breaker.ts";
import type { ChainObserver, ChainPart } from "./chain-part.ts";
import { type BudgetOf, createBudgetOf } from "./model-budget.ts";
import { defaultPrices, type PriceTable } from "./pricing.ts";
import type { AnswerOptions, ChatMessage, Provider } from "./provider.ts";
import { type RunOptions, run } from "./run.ts";

export type { ChainObserver, ChainPart } from "./chain-part.ts";

export type ChainOptions = {
  providers: ReadonlyMap<string, Provider>;
  /** `provider/name`, in fallback order; not empty, without repetitions. */
  models: readonly string[];
  firstTokenTimeoutMs: number;
  idleTimeoutMs: number;
  /** Retries of one model in one run. */
  maxRetries: number;
  log: Log;
  observe?: ChainObserver;
  prices?: PriceTable;
  /** How much each model is shown of what it is asked with `isFitted`. */
  budgetOf?: BudgetOf;
  breaker?: BreakerOptions;
  backoffBaseMs?: number;
};

export type ModelState = { id: string; provider: string } & BreakerState;

export type ChainRequest = {
  /** `provider/name`, or null for the default. A model that is no longer configured counts as null. */
  model: string | null;
  messages: readonly ChatMessage[];
  /** Ends the run; its last part is then `aborted`. */
  signal: AbortSignal;
  /** Goes on with an answer whose run broke off, in `attempt`, after `text`. */
  resume?: Resume | null;
  outputTokensMax?: number | null;
  /** Whether each model gets only what fits its own budget, and is asked for no longer answer than it can give. */
  isFitted?: boolean;
  /** False: no other model is asked when the requested one fails. */
  hasFallback?: boolean;
  options?: AnswerOptions;
  /** Takes most texts without the detour by way of parts; see `LegRequest`. */
  onText?(text: string): void;
};

/** The configured models as one: whoever asks gets an answer from the first that can give it. */
export interface Chain {
  readonly defaultModel: string;
  has(model: string): boolean;
  /** In fallback order, with what the circuit breaker thinks of them. */
  models(): ModelState[];
  /**
   * Asks the requested model, then the others in order, until one of them ends the answer. Leaving the loop before the
   * last part aborts the run as the signal does, but without a last part.
   */
  run(request: ChainRequest): AsyncGenerator<ChainPart, void, undefined>;
}

/** Builds the chain. @throws Error when `models` is empty, or names a provider that is not there. */
export function createChain(options: ChainOptions): Chain {
  const { providers, models, observe = {} } = options;
  const [defaultModel] = models;
  if (defaultModel === undefined) throw new Error("The chain needs at least one model.");
  const breakers = new Map<string, Breaker>();
  for (const model of models) {
    if (!providers.has(providerOf(model))) throw new Error(`There is no provider for the model ${model}.`);
    const onChange = (state: BreakerState["state"]) => {
      options.log.info({ model, state }, "model state");
      observe.onModelState?.(model, state);
    };
    breakers.set(model, createBreaker(options.breaker ?? defaultBreakerOptions, onChange));
  }
  const runOptions: RunOptions = {
    ...options,
    breakers,
    observe,
    prices: options.prices ?? defaultPrices,
    budgetOf: options.budgetOf ?? createBudgetOf(),
    backoffBaseMs: options.backoffBaseMs ?? BACKOFF_BASE_MS,
  };

  return {
    defaultModel,
    has: (model) => breakers.has(model),
    models: () => [...breakers].map(([id, breaker]) => ({ id, provider: providerOf(id), ...breaker.state() })),
    run(request) {
      const first = request.model !== null && breakers.has(request.model) ? request.model : defaultModel;
      const others = request.hasFallback === false ? [] : models.filter((model) => model !== first);
      const order = [first, ...others];
      return run(runOptions, { ...request, order });
    },
  };
}

const providerOf = (model: string): string => model.slice(0, model.indexOf("/"));
