import type { Log } from "../../lib/log.ts";
import type { AnswerPart, RunEnd } from "../answer-part.ts";
import type { ResumePoint } from "../attempt/answer.ts";
import { describeModel, type ModelDetails } from "../describe-model.ts";
import { type ExtraField, findUnsupportedField } from "../extra-fields.ts";
import { type Catalog, createCatalog } from "../models.ts";
import type { ChainObserver } from "../observer.ts";
import { PauseSignal } from "../pause-signal.ts";
import type { AnswerFormat, AnswerOptions, ChatMessage, Provider, PushPart } from "../provider.ts";
import type { ExplainFailure, RunContext } from "../run-context.ts";
import type { GetTimeouts } from "../timeouts.ts";
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
  /** Model names (`provider/name`) in fallback order, without duplicates. Must not be empty. */
  models: readonly string[];
  getTimeouts: GetTimeouts;
  /** Timeout of a whole answer. By default, an answer has no timeout. */
  answerTimeoutMs?: number;
  /** Maximum number of retries per model and run. */
  maxRetries: number;
  log: Log;
  /** Whether reasoning is pushed. The default is true. */
  shouldShowReasoning?: boolean;
  /** Describes what operators can do about a failure, for the log. */
  explainFailure?: ExplainFailure;
  observer?: ChainObserver;
  /** Prices, capabilities and budgets of the models. */
  catalog?: Catalog;
  breaker?: BreakerOptions;
  backoffBaseMs?: number;
};

export type ModelState = { id: string; provider: string } & BreakerState;

export type RunRequest = {
  /** `provider/name`. If null or no longer configured, the default model is used. */
  model: string | null;
  messages: readonly ChatMessage[];
  /** Ends the run as `aborted`. */
  signal: AbortSignal;
  /** Pauses the run. */
  pause?: PauseSignal;
  /** If set, the run continues an earlier run's answer. */
  resume?: ResumePoint | null;
  outputTokensMax?: number | null;
  /** Whether to trim the messages and the answer's maximum length to each model's own limits. */
  shouldFitModelLimits?: boolean;
  /** Index of the first message that is never trimmed. The default is the last user message. */
  questionIndex?: number;
  /** Whether other models are tried if the requested one fails. The default is true. */
  hasFallback?: boolean;
  /** Whether text that was already shown can be replaced to repair its format. The default is true. */
  isRepairable?: boolean;
  options?: AnswerOptions;
  /** Called once per attempt, when the first bytes of the response body arrive. */
  onActivity?: (() => void) | undefined;
  /** Start of the answer's first run, on the clock of `performance.now()`. The default is now. */
  startedAtMs?: number;
  /** Log fields that identify the request. Only tests omit them. */
  logContext?: RunContext;
};

/** The failover chain: all configured models behind one interface. */
export interface Chain {
  readonly defaultModel: string;
  /** Timeout of a whole answer, including all its runs. When it expires, the run ends with `provider_timeout`. */
  readonly answerTimeoutMs: number;
  has(model: string): boolean;
  /** Whether a model supports this format. True for unknown models. */
  canAnswerIn(format: AnswerFormat, model: string): boolean;
  /** Returns the first field in the options that the model's provider doesn't support, or null. */
  findUnsupportedField(model: string, options: AnswerOptions): ExtraField | null;
  /** Returns what is known about a configured model. */
  describe(model: string): ModelDetails;
  /** Returns the models in fallback order, with their circuit breaker states. */
  listModels(): ModelState[];
  /**
   * Tries the requested model, then the others in order, until one completes the answer. Pushes each part as soon as it
   * arrives, in the same tick. Resolves with the run's end after the last part; never rejects.
   */
  run(request: RunRequest, push: PushPart<AnswerPart>): Promise<RunEnd>;
}

/** Creates the failover chain. @throws Error if `models` is empty, or if the provider of a model isn't configured. */
export function createChain(options: ChainOptions): Chain {
  const { providers, models, observer = {}, catalog = createCatalog() } = options;
  const [defaultModel] = models;
  if (defaultModel === undefined) throw new Error("The chain needs at least one model.");
  const breakers = new Map<string, Breaker>();
  for (const model of models) {
    if (!providers.has(getProviderName(model))) throw new Error(`No provider is configured for the model ${model}.`);
    const onChange = (state: BreakerState["state"], logContext?: RunContext) => {
      options.log.info({ ...logContext, model, state }, "model state");
      observer.onModelState?.(model, state);
    };
    breakers.set(model, createBreaker(options.breaker ?? defaultBreakerOptions, onChange));
  }
  const {
    backoffBaseMs = BACKOFF_BASE_MS,
    answerTimeoutMs = Number.POSITIVE_INFINITY,
    shouldShowReasoning = true,
  } = options;
  const failureLog = createFailureLog({ log: options.log, explain: options.explainFailure });
  const runOptions: RunOptions = {
    ...options,
    breakers,
    observer,
    catalog,
    backoffBaseMs,
    failureLog,
    shouldShowReasoning,
  };

  const findApi = (model: string) => providers.get(getProviderName(model))?.api;
  const findFieldUnsupportedBy = (model: string, options?: AnswerOptions) =>
    findUnsupportedField(findApi(model), options?.extra);
  const canAnswerIn = (format: AnswerFormat, model: string) => catalog.hasCapability(model, format.type);

  /** Returns the models to try: the requested one, then the others that support the options. */
  const listModelsToTry = ({ model, hasFallback, options }: RunRequest): string[] => {
    const firstModel = model !== null && breakers.has(model) ? model : defaultModel;
    const isFallback = (name: string) => name !== firstModel && findFieldUnsupportedBy(name, options) === null;
    const otherModels = hasFallback === false ? [] : models.filter(isFallback);
    const { format } = options ?? {};
    return [firstModel, ...otherModels].filter((name) => !format || canAnswerIn(format, name));
  };

  return {
    defaultModel,
    answerTimeoutMs,
    has: (model) => breakers.has(model),
    canAnswerIn,
    findUnsupportedField: findFieldUnsupportedBy,
    describe: (model) => describeModel(model, findApi(model), catalog),
    listModels: () =>
      [...breakers].map(([id, breaker]) => ({ id, provider: getProviderName(id), ...breaker.getState() })),
    run(request, push) {
      const { startedAtMs = performance.now(), options } = request;
      const deadlineMs = startedAtMs + answerTimeoutMs;
      const startRun: Chain["run"] = (runRequest, pushPart) => {
        const { pause = new PauseSignal() } = runRequest;
        return run(runOptions, { ...runRequest, pause, deadlineMs, order: listModelsToTry(runRequest) }, pushPart);
      };
      return options?.format ? runFormatted(startRun, request, options.format, push) : startRun(request, push);
    },
  };
}

const getProviderName = (model: string): string => model.slice(0, model.indexOf("/"));
