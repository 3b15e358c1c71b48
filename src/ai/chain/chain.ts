import type { Log } from "../../lib/log.ts";
import type { AnswerPart, RunEnd } from "../answer-part.ts";
import type { Resume } from "../attempt/answer.ts";
import { describeModel, type ModelDetails } from "../describe-model.ts";
import { type ExtraField, findUnsupported } from "../extra-fields.ts";
import { type Catalog, createCatalog } from "../models.ts";
import type { ChainObserver } from "../observer.ts";
import { PauseSignal } from "../pause-signal.ts";
import type { AnswerFormat, AnswerOptions, ChatMessage, Provider, PushPart } from "../provider.ts";
import type { ExplainFailure, RunContext } from "../run-context.ts";
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
  /** `provider/name`, in fallback order; not empty, no duplicates. */
  models: readonly string[];
  /** How long each model may stay silent. */
  timeoutsOf: TimeoutsOf;
  /** Time limit of a whole answer, in milliseconds. Absent: none. */
  answerTimeoutMs?: number;
  /** Retries per model and run. */
  maxRetries: number;
  log: Log;
  /** Whether reasoning is pushed; default: true. */
  showsReasoning?: boolean;
  /** Explains what can be done about a failure, for the log. */
  explainFailure?: ExplainFailure;
  observe?: ChainObserver;
  /** Prices, abilities, and the budget of each model for `isFitted` requests. */
  catalog?: Catalog;
  breaker?: BreakerOptions;
  backoffBaseMs?: number;
};

export type ModelState = { id: string; provider: string } & BreakerState;

export type RunRequest = {
  /** `provider/name`, or null for the default. A model that is no longer configured counts as null. */
  model: string | null;
  messages: readonly ChatMessage[];
  /** Ends the run as `aborted`. */
  signal: AbortSignal;
  /** Lets the reader pause the run. */
  pause?: PauseSignal;
  /** Continues an answer whose run broke off in `attempt`, after `text`. */
  resume?: Resume | null;
  outputTokensMax?: number | null;
  /** Whether to trim the messages to each model's own budget and cap the answer at its maximum length. */
  isFitted?: boolean;
  /** Index of the question in the messages. It and all later messages are never trimmed. Absent: the last user message. */
  questionAt?: number;
  /** False: no other model is tried when the requested one fails. */
  hasFallback?: boolean;
  /** False: shown text can't be withdrawn, so a text with the wrong format is not repaired. */
  isRepairable?: boolean;
  options?: AnswerOptions;
  /** Called in each attempt when the first bytes of a response body arrive, before there is anything to show. */
  onActivity?: (() => void) | undefined;
  /** When the answer began, on the clock of `performance.now()`, if this isn't its first run. Absent: now. */
  startedAtMs?: number;
  /** What the run is for. Absent only in tests. */
  about?: RunContext;
};

/** All configured models behind one interface: the first one that can answer does. */
export interface Chain {
  readonly defaultModel: string;
  /** Time limit of a whole answer over all its runs; then the run ends with `provider_timeout`. */
  readonly answerTimeoutMs: number;
  has(model: string): boolean;
  /** Whether a model can answer in this format, as far as known. */
  canAnswerIn(format: AnswerFormat, model: string): boolean;
  /** The first field in the options that the model's provider doesn't support; null: all are supported. */
  findUnsupported(model: string, options: AnswerOptions): ExtraField | null;
  /** Returns what is known about a configured model. */
  describe(model: string): ModelDetails;
  /** The models in fallback order, with their circuit breaker states. */
  models(): ModelState[];
  /**
   * Tries the requested model, then the others in order, until one completes the answer. Pushes each part in the tick it
   * arrives, and resolves with the run's end after the last part. Never rejects.
   */
  run(request: RunRequest, push: PushPart<AnswerPart>): Promise<RunEnd>;
}

/** Builds the chain. @throws Error if `models` is empty or names an unknown provider. */
export function createChain(options: ChainOptions): Chain {
  const { providers, models, observe = {}, catalog = createCatalog() } = options;
  const [defaultModel] = models;
  if (defaultModel === undefined) throw new Error("The chain needs at least one model.");
  const breakers = new Map<string, Breaker>();
  for (const model of models) {
    if (!providers.has(providerOf(model))) throw new Error(`No provider is configured for the model ${model}.`);
    const onChange = (state: BreakerState["state"], about?: RunContext) => {
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
  const runOptions: RunOptions = { ...options, breakers, observe, catalog, backoffBaseMs, failures, showsReasoning };

  const apiOf = (model: string) => providers.get(providerOf(model))?.api;
  const findUnsupportedBy = (model: string, options?: AnswerOptions) => findUnsupported(apiOf(model), options?.extra);
  const canAnswerIn = (format: AnswerFormat, model: string) => catalog.can(model, format.type);

  /** The models to try: the requested one first, without those known not to support the options. */
  const listOrder = ({ model, hasFallback, options }: RunRequest): string[] => {
    const first = model !== null && breakers.has(model) ? model : defaultModel;
    const supportsOptions = (other: string) => other !== first && findUnsupportedBy(other, options) === null;
    const others = hasFallback === false ? [] : models.filter(supportsOptions);
    const { format } = options ?? {};
    return [first, ...others].filter((name) => !format || canAnswerIn(format, name));
  };

  return {
    defaultModel,
    answerTimeoutMs,
    has: (model) => breakers.has(model),
    canAnswerIn,
    findUnsupported: findUnsupportedBy,
    describe: (model) => describeModel(model, apiOf(model), catalog),
    models: () => [...breakers].map(([id, breaker]) => ({ id, provider: providerOf(id), ...breaker.state() })),
    run(request, push) {
      const { startedAtMs = performance.now(), options } = request;
      const endsAtMs = startedAtMs + answerTimeoutMs;
      const start: Chain["run"] = (runRequest, pushPart) => {
        const { pause = new PauseSignal() } = runRequest;
        return run(runOptions, { ...runRequest, pause, endsAtMs, order: listOrder(runRequest) }, pushPart);
      };
      return options?.format ? runFormatted(start, request, options.format, push) : start(request, push);
    },
  };
}

const providerOf = (model: string): string => model.slice(0, model.indexOf("/"));
