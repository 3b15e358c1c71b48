import type { AnswerPart, RunUsage } from "../answer-part.ts";
import { fitMessages } from "../fit-messages.ts";
import type { Catalogue } from "../models.ts";
import type { ChainObserver } from "../observer.ts";
import type { PauseSignal } from "../pause-signal.ts";
import type {
  AnswerOptions,
  ChatMessage,
  ModelFinishReason,
  Provider,
  ProviderEnd,
  ProviderError,
  ProviderPart,
  ProviderRequest,
  PushPart,
  ToolCall,
  Usage,
} from "../provider.ts";
import { type AnswerState, findPartial, openAnswer, roomLeft, showText } from "./answer.ts";
import { createOverlapTrimmer } from "./overlap-trimmer.ts";
import { createTextCleaner } from "./text-cleaner.ts";
import { countUsage } from "./usage.ts";
import { watch } from "./watchdog.ts";

export type AttemptOptions = {
  providers: ReadonlyMap<string, Provider>;
  catalogue: Catalogue;
  firstTokenTimeoutMs: number;
  idleTimeoutMs: number;
  observe: ChainObserver;
};

export type AttemptRequest = {
  messages: readonly ChatMessage[];
  signal: AbortSignal;
  pause: PauseSignal;
  outputTokensMax?: number | null;
  /** Whether each model gets only what fits its own budget, and is asked for no longer answer than it can give. */
  isFitted?: boolean;
  options?: AnswerOptions;
};

/** How an attempt tells what became of it; exactly one of `succeed`, `fail` and `leave` ends it, later calls do nothing. */
export type AttemptReport = {
  firstToken(): void;
  succeed(): void;
  fail(failure?: { retryAfterMs: number | null }): void;
  /** Ended without a verdict: stopped by the user, or a request that was at fault itself. */
  leave(): void;
};

export type AttemptOutcome = { usage: RunUsage | null } & (
  | { type: "finish"; reason: ModelFinishReason; toolCalls: readonly ToolCall[] }
  /** Not continuable once a tool call began: another model can only make the whole step anew. */
  | { type: "failed"; error: ProviderError; isContinuable: boolean }
  | { type: "aborted" }
);

/** Asks one model to write `answer`, or to go on with it, and pushes what it writes. */
export async function makeAttempt(
  options: AttemptOptions,
  request: AttemptRequest,
  answer: AnswerState,
  { model, report }: { model: string; report: AttemptReport },
  push: PushPart<AnswerPart>,
): Promise<AttemptOutcome> {
  const { observe } = options;
  const startedMs = performance.now();
  const secondsSoFar = () => (performance.now() - startedMs) / 1000;
  const partial = findPartial(answer);
  const trimmer = createOverlapTrimmer(partial ?? "");
  const cleaner = createTextCleaner(roomLeft(answer), (text) => showText(answer, model, text, push));
  const shownBefore = answer.shown.length;
  const { provider, asked } = prepare(options, request, model, partial);
  let hasText = false;
  let hasToolCall = false;
  let reported: Usage | null = null;

  function take(part: ProviderPart): ProviderEnd | undefined {
    switch (part.type) {
      case "text":
        if (!hasText) {
          hasText = true;
          report.firstToken();
          observe.onFirstToken?.(model, secondsSoFar());
        }
        cleaner.push(trimmer.push(part.text));
        return cleaner.isFull() ? { type: "finish", reason: "length", usage: null } : undefined;
      case "tool_call":
        if (!hasToolCall) report.firstToken();
        hasToolCall = true;
        return undefined;
      case "usage":
        reported = part.usage;
        return undefined;
      case "activity":
        return undefined;
      default:
        return part satisfies never;
    }
  }

  const end = await watch(
    (signal, pushPart) => provider.stream({ ...asked, signal }, pushPart),
    { ...options, signal: request.signal, pause: request.pause },
    take,
  );
  if (end.type !== "aborted") cleaner.push(trimmer.end());
  if (end.type === "finish" && !answer.isOpen) openAnswer(answer, model, push);
  const { toolCalls = [], usage: counted = null } = end.type === "finish" ? end : {};
  reported = counted ?? reported;
  const usage = countUsage({
    messages: asked.messages,
    hasText,
    readWritten: () => answer.shown.slice(shownBefore) + trimmer.unshown(),
    toolCalls,
    reported,
    isFinal: counted !== null,
  });
  tell(end);
  switch (end.type) {
    case "finish":
      return { type: "finish", reason: end.reason, toolCalls, usage };
    case "error":
      return { type: "failed", error: end.error, isContinuable: !hasToolCall, usage };
    case "aborted":
      return { type: "aborted", usage };
  }

  /** Tells the breaker and the metrics. */
  function tell(how: typeof end): void {
    const error = how.type === "error" ? how.error : null;
    if (how.type === "finish") report.succeed();
    // A refused request says nothing about the model's health.
    if (error && error.code !== "provider_refused") report.fail(error);
    report.leave();
    const outcome = { finish: "complete", error: "failed", aborted: "aborted" } as const;
    observe.onAttempt?.(model, outcome[how.type], secondsSoFar(), error?.code ?? null);
    if (!reported) return;
    observe.onTokens?.(model, "input", reported.input_tokens);
    observe.onTokens?.(model, "output", reported.output_tokens);
  }
}

/** The provider of a model, and what it is asked. */
function prepare(
  { providers, catalogue }: AttemptOptions,
  { messages, outputTokensMax = null, isFitted = false, options = {}, pause }: AttemptRequest,
  model: string,
  partial: string | null,
): { provider: Provider; asked: Omit<ProviderRequest, "signal"> } {
  const slash = model.indexOf("/");
  const provider = providers.get(model.slice(0, slash));
  if (!provider) throw new Error(`There is no provider for the model ${model}.`);
  const budget = catalogue.budgetOf(model);
  const limits = [outputTokensMax, isFitted ? budget.outputTokensMax : null].filter((limit) => limit !== null);
  const asked = {
    model: model.slice(slash + 1),
    messages: isFitted ? fitMessages(messages, budget.inputTokens) : [...messages],
    partial,
    outputTokensMax: limits.length === 0 ? null : Math.min(...limits),
    options: catalogue.can(model, "tools") ? options : { ...options, tools: undefined },
    pause,
  };
  return { provider, asked };
}
