import type { Log } from "../../lib/log.ts";
import type { AnswerPart, RunEnd } from "../answer-part.ts";
import type { Resume } from "../attempt/answer.ts";
import { type Catalogue, createCatalogue } from "../models.ts";
import type { ChainObserver } from "../observer.ts";
import { PauseSignal } from "../pause-signal.ts";
import type { AnswerOptions, ChatMessage, Provider, PushPart } from "../provider.ts";
import { BACKOFF_BASE_MS } from "./backoff.ts";
import {
  type Breaker,
  type BreakerOptions,
  type BreakerState,
  createBreaker,
  defaultBreakerOptions,
} from "./breaker.ts";
import { type RunOptions, run } from "./run.ts";

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
  /** Prices, abilities, and how much each model is shown of what it is asked with `isFitted`. */
  catalogue?: Catalogue;
  breaker?: BreakerOptions;
  backoffBaseMs?: number;
};

export type ModelState = { id: string; provider: string } & BreakerState;

export type RunRequest = {
  /** `provider/name`, or null for the default. A model that is no longer configured counts as null. */
  model: string | null;
  messages: readonly ChatMessage[];
  /** Ends the run, as `aborted`. */
  signal: AbortSignal;
  /** Lets the reader hold the run back. */
  pause?: PauseSignal;
  /** Goes on with an answer whose run broke off, in `attempt`, after `text`. */
  resume?: Resume | null;
  outputTokensMax?: number | null;
  /** Whether each model gets only what fits its own budget, and is asked for no longer answer than it can give. */
  isFitted?: boolean;
  /** False: no other model is asked when the requested one fails. */
  hasFallback?: boolean;
  options?: AnswerOptions;
};

/** The configured models as one: whoever asks gets an answer from the first that can give it. */
export interface Chain {
  readonly defaultModel: string;
  has(model: string): boolean;
  /** In fallback order, with what the circuit breaker thinks of them. */
  models(): ModelState[];
  /**
   * Asks the requested model, then the others in order, until one of them ends the answer. Pushes each part in the tick
   * in which it comes, and fulfils with how the run ended, after the last part. It never rejects.
   */
  run(request: RunRequest, push: PushPart<AnswerPart>): Promise<RunEnd>;
}

/** Builds the chain. @throws Error when `models` is empty, or names a provider that is not there. */
export function createChain(options: ChainOptions): Chain {
  const { providers, models, observe = {}, catalogue = createCatalogue() } = options;
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
  const { backoffBaseMs = BACKOFF_BASE_MS } = options;
  const runOptions: RunOptions = { ...options, breakers, observe, catalogue, backoffBaseMs };

  return {
    defaultModel,
    has: (model) => breakers.has(model),
    models: () => [...breakers].map(([id, breaker]) => ({ id, provider: providerOf(id), ...breaker.state() })),
    run(request, push) {
      const first = request.model !== null && breakers.has(request.model) ? request.model : defaultModel;
      const others = request.hasFallback === false ? [] : models.filter((model) => model !== first);
      const { pause = new PauseSignal() } = request;
      return run(runOptions, { ...request, pause, order: [first, ...others] }, push);
    },
  };
}

const providerOf = (model: string): string => model.slice(0, model.indexOf("/"));
