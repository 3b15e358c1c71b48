import type { Log } from "../../lib/log.ts";
import type { AboutRun, ExplainFailure } from "../about-run.ts";
import type { AnswerPart, RunEnd } from "../answer-part.ts";
import type { Resume } from "../attempt/answer.ts";
import { describeModel, type ModelDetails } from "../describe-model.ts";
import { type ExtraField, findUntaken } from "../extra-fields.ts";
import { type Catalogue, createCatalogue } from "../models.ts";
import type { ChainObserver } from "../observer.ts";
import { PauseSignal } from "../pause-signal.ts";
import type { AnswerFormat, AnswerOptions, ChatMessage, Provider, PushPart } from "../provider.ts";
import type { TimeoutsOf } from "../timeouts.ts";
import { BACKOFF_BASE_MS } from "./backoff.ts";
import {
  type Breaker,
  type BreakerOptions,
  type BreakerState,
  createBreaker,
  defaultBreakerOptions,
} from "./breaker.ts";
import { createFailureLog } from "./failure-log.ts";
import { runFormatted } from "./formatted-run.ts";
import { type RunOptions, run } from "./run.ts";

export type ChainOptions = {
  providers: ReadonlyMap<string, Provider>;
  /** `provider/name`, in fallback order; not empty, without repetitions. */
  models: readonly string[];
  /** How long each model may be silent. */
  timeoutsOf: TimeoutsOf;
  /** Longest time of a whole answer, in milliseconds. Absent: no limit. */
  answerTimeoutMs?: number;
  /** Retries of one model in one run. */
  maxRetries: number;
  log: Log;
  /** Whether what models think is pushed; absent: it is. */
  showsReasoning?: boolean;
  /** What can be done about a failure, for the log. */
  explainFailure?: ExplainFailure;
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
  /** Where the question is among the messages, which stays with all that follows; absent: the last message of a user. */
  questionAt?: number;
  /** False: no other model is asked when the requested one fails. */
  hasFallback?: boolean;
  /** False: what was shown cannot be taken back, so a text without its format is not asked for again. */
  isRepairable?: boolean;
  options?: AnswerOptions;
  /** Called for each attempt when the first bytes of a response's body come, before there is anything to show. */
  onActivity?: (() => void) | undefined;
  /** When the answer began, as `performance.now()` counts, if this run isn't the first of it. Absent: now. */
  startedAtMs?: number;
  /** What it is for. Only in tests it is for nothing. */
  about?: AboutRun;
};

/** The configured models as one: whoever asks gets an answer from the first that can give it. */
export interface Chain {
  readonly defaultModel: string;
  /** Longest time of a whole answer, over all of its runs: after that a run ends with `provider_timeout`. */
  readonly answerTimeoutMs: number;
  has(model: string): boolean;
  /** Whether a model can answer in this format, as far as that is known. */
  canAnswerIn(format: AnswerFormat, model: string): boolean;
  /** The first field of the options that the model's provider doesn't have; null: it has all of them. */
  findUntaken(model: string, options: AnswerOptions): ExtraField | null;
  /** What is known of a configured model. */
  describe(model: string): ModelDetails;
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
    const onChange = (state: BreakerState["state"], about?: AboutRun) => {
      options.log.info({ ...about, model, state }, "model state");
      observe.onModelState?.(model, state);
    };
    breakers.set(model, createBreaker(options.breaker ?? defaultBreakerOptions, onChange));
  }
  const {
    backoffBaseMs = BACKOFF_BASE_MS,
    answerTimeoutMs = Number.POSITIVE_INFINITY,
    showsReasoning = true,
  } = options;
  const failures = createFailureLog({ log: options.log, explain: options.explainFailure });
  const runOptions: RunOptions = { ...options, breakers, observe, catalogue, backoffBaseMs, failures, showsReasoning };

  const apiOf = (model: string) => providers.get(providerOf(model))?.api;
  const findUntakenBy = (model: string, asked?: AnswerOptions) => findUntaken(apiOf(model), asked?.extra);
  const canAnswerIn = (format: AnswerFormat, model: string) => catalogue.can(model, format.type);

  /** The models to ask: the requested one first, and none that is known not to take what is asked for. */
  const listOrder = ({ model, hasFallback, options }: RunRequest): string[] => {
    const first = model !== null && breakers.has(model) ? model : defaultModel;
    const takes = (other: string) => other !== first && findUntakenBy(other, options) === null;
    const others = hasFallback === false ? [] : models.filter(takes);
    const { format } = options ?? {};
    return [first, ...others].filter((name) => !format || canAnswerIn(format, name));
  };

  return {
    defaultModel,
    answerTimeoutMs,
    has: (model) => breakers.has(model),
    canAnswerIn,
    findUntaken: findUntakenBy,
    describe: (model) => describeModel(model, apiOf(model), catalogue),
    models: () => [...breakers].map(([id, breaker]) => ({ id, provider: providerOf(id), ...breaker.state() })),
    run(request, push) {
      const { startedAtMs = performance.now(), options } = request;
      const endsAtMs = startedAtMs + answerTimeoutMs;
      const start: Chain["run"] = (asked, pushPart) => {
        const { pause = new PauseSignal() } = asked;
        return run(runOptions, { ...asked, pause, endsAtMs, order: listOrder(asked) }, pushPart);
      };
      return options?.format ? runFormatted(start, request, options.format, push) : start(request, push);
    },
  };
}

const providerOf = (model: string): string => model.slice(0, model.indexOf("/"));
