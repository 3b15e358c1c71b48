import type { AnswerPart, RunUsage } from "../answer-part.ts";
import { fitMessages } from "../fit-messages.ts";
import type { Catalog } from "../models.ts";
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
  ReportedUsage,
  Thinking,
  ToolCall,
} from "../provider.ts";
import type { RunContext } from "../run-context.ts";
import { THINKING_SILENCE_MS, type TimeoutsOf } from "../timeouts.ts";
import { mergeReports } from "../usage.ts";
import { type AnswerState, charsLeft, findPartial, openAnswer, recordWriter, restartStep, showText } from "./answer.ts";
import { createFenceFilter } from "./fence-filter.ts";
import { createOverlapTrimmer } from "./overlap-trimmer.ts";
import { createReasoningReader } from "./reasoning-reader.ts";
import { refuseBlank } from "./refuse-blank.ts";
import { createStopFilter } from "./stop-filter.ts";
import { createTextCleaner } from "./text-cleaner.ts";
import { createThinkFilter } from "./think-filter.ts";
import { countUsage } from "./usage.ts";
import { watch } from "./watchdog.ts";

export type AttemptOptions = {
  providers: ReadonlyMap<string, Provider>;
  catalog: Catalog;
  timeoutsOf: TimeoutsOf;
  observe: ChainObserver;
  /** Whether reasoning is pushed. */
  showsReasoning: boolean;
};

export type AttemptRequest = {
  messages: readonly ChatMessage[];
  signal: AbortSignal;
  pause: PauseSignal;
  outputTokensMax?: number | null;
  /** Whether to trim the messages to each model's own budget and cap the answer at its maximum length. */
  isFitted?: boolean;
  /** Index of the question in the messages. It and all later messages are never trimmed. Absent: the last user message. */
  questionAt?: number;
  options?: AnswerOptions;
  /** Called in each attempt when the first bytes of a response body arrive, before there is anything to show. */
  onActivity?: (() => void) | undefined;
  /** Deadline of the whole answer, on the clock of `performance.now()`. */
  endsAtMs: number;
  about?: RunContext;
};

/** Reports the outcome of an attempt. Exactly one of `succeed`, `fail` and `leave` ends it; later calls do nothing. */
export type AttemptReport = {
  firstToken(): void;
  succeed(): void;
  fail(failure?: { retryAfterMs: number | null; about?: RunContext | undefined }): void;
  /** Ended without a verdict: the user stopped it, or the request itself was at fault. */
  leave(): void;
};

export type AttemptOutcome = { usage: RunUsage | null } & (
  | { type: "finish"; reason: ModelFinishReason; toolCalls: readonly ToolCall[]; thinking: Thinking | undefined }
  /** Not continuable once a tool call began: another model has to start the step over. */
  | { type: "failed"; error: ProviderError; isContinuable: boolean }
  | { type: "aborted" }
  /** The deadline of the whole answer has passed. */
  | { type: "expired" }
);

/** Asks one model to write or continue `answer`, and pushes its parts. */
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
  const cleaner = createTextCleaner(charsLeft(answer), (text) => showText(answer, model, text, push));
  const pushReasoning = options.showsReasoning ? push : null;
  const reasoning = createReasoningReader(answer, model, pushReasoning);
  const thinkFilter = createThinkFilter(takeReasoning);
  const fenceFilter = request.options?.format ? createFenceFilter() : null;
  const stopFilter = createStopFilter(request.options?.stop);
  const shownBefore = answer.shown.length;
  const timeouts = options.timeoutsOf(model);
  const { provider, providerRequest } = prepare(options, request, model, partial);
  let hasText = false;
  let hasToolCall = false;
  let hasActivity = false;
  let hasReasoning = false;
  let reported: ReportedUsage | null = null;

  function takeReasoning(text: string): void {
    hasReasoning = true;
    reasoning.push(text);
  }

  function takeText(text: string): void {
    if (text === "") return;
    if (!hasText) {
      hasText = true;
      report.firstToken();
      observe.onFirstToken?.(model, secondsSoFar());
    }
    reasoning.pause();
    cleaner.push(trimmer.push(fenceFilter ? fenceFilter.push(text) : text));
  }

  function take(part: ProviderPart): ProviderEnd | undefined {
    switch (part.type) {
      case "text":
        takeText(stopFilter.push(thinkFilter.push(part.text)));
        if (stopFilter.isStopped()) return { type: "finish", reason: "stop", usage: null };
        return cleaner.isFull() ? { type: "finish", reason: "length", usage: null } : undefined;
      case "tool_call":
        if (!hasToolCall) report.firstToken();
        hasToolCall = true;
        reasoning.pause();
        return undefined;
      case "usage":
        reported = mergeReports(reported, part.usage);
        return undefined;
      case "reasoning":
        takeReasoning(part.text);
        return undefined;
      case "activity":
        if (hasActivity || part.isHead) return undefined;
        hasActivity = true;
        request.onActivity?.();
        return undefined;
      default:
        return part satisfies never;
    }
  }

  const ended = await watch(
    (signal, pushPart) => provider.stream({ ...providerRequest, idleTimeoutMs: timeouts.idleMs, signal }, pushPart),
    {
      signal: request.signal,
      pause: request.pause,
      firstTokenTimeoutMs: timeouts.firstTokenMs,
      idleTimeoutMs: timeouts.idleMs,
      endsAtMs: request.endsAtMs,
    },
    take,
  );
  if (ended.type !== "aborted") {
    takeText(stopFilter.push(thinkFilter.end()) + stopFilter.end());
    cleaner.push(trimmer.push(fenceFilter?.end() ?? "") + trimmer.end());
  }
  const { toolCalls = [], usage: counted = null } = ended.type === "finish" ? ended : {};
  const hasOutput = hasText || hasToolCall || hasReasoning || toolCalls.length > 0;
  const isUntouched = partial !== null && !hasOutput && !counted?.output_tokens;
  // A stop sequence at the very beginning is a valid empty answer.
  const end = stopFilter.isStopped() ? ended : refuseBlank(ended, answer.shown, isUntouched);
  // Discards its white space as well.
  if (end !== ended && partial === null) restartStep(answer);
  if (end.type === "finish") {
    if (!answer.isOpen) openAnswer(answer, model, push);
    recordWriter(answer, model);
  }
  const usage = countUsage({
    providerRequest,
    hasOutput,
    readWritten: () => answer.shown.slice(shownBefore) + trimmer.unshown(),
    toolCalls,
    reasoning: reasoning.all(),
    reported: mergeReports(reported, counted),
    isFinal: typeof counted?.output_tokens === "number",
  });
  reportEnd(end);
  switch (end.type) {
    case "finish":
      return { type: "finish", reason: end.reason, toolCalls, thinking: end.thinking, usage };
    case "error":
      return { type: "failed", error: end.error, isContinuable: !hasToolCall, usage };
    case "aborted":
    case "expired":
      return { type: end.type, usage };
  }

  /** Reports the outcome to the breaker and the metrics. */
  function reportEnd(how: typeof end): void {
    const error = how.type === "error" ? how.error : null;
    if (how.type === "finish") report.succeed();
    // These say nothing about the model's health: a rejected request, a limit that leaves no room for text, and the deadline
    // of the answer, which other models may have used up.
    const isHealthy = error?.code === "provider_refused" || (ended.type === "finish" && ended.reason === "length");
    if (error && !isHealthy) report.fail({ retryAfterMs: error.retryAfterMs, about: request.about });
    report.leave();
    const outcome = { finish: "complete", error: "failed", aborted: "aborted", expired: "failed" } as const;
    const code = how.type === "expired" ? "provider_timeout" : (error?.code ?? null);
    observe.onAttempt?.(model, outcome[how.type], secondsSoFar(), code);
  }
}

/** Whether a thinking model has to show activity before its timeouts. */
const needsActivity = ({ firstTokenMs, idleMs }: ReturnType<TimeoutsOf>): boolean =>
  Math.min(firstTokenMs, idleMs) < THINKING_SILENCE_MS;

/** Returns the provider of a model and the request for it. */
function prepare(
  { providers, catalog, timeoutsOf, showsReasoning }: AttemptOptions,
  { messages, outputTokensMax = null, isFitted = false, questionAt, options = {}, pause }: AttemptRequest,
  model: string,
  partial: string | null,
): { provider: Provider; providerRequest: Omit<ProviderRequest, "signal"> } {
  const slash = model.indexOf("/");
  const provider = providers.get(model.slice(0, slash));
  if (!provider) throw new Error(`No provider is configured for the model ${model}.`);
  const budget = catalog.budgetOf(model);
  const longest = budget.outputTokensMax;
  const requestedMax = outputTokensMax ?? (isFitted ? longest : null);
  const providerRequest = {
    model: model.slice(slash + 1),
    messages: isFitted ? fitMessages(messages, budget.inputTokens, questionAt) : [...messages],
    partial,
    // Caps the client's own limit too: this may be a fallback model with a shorter maximum.
    outputTokensMax: requestedMax === null || longest === null ? requestedMax : Math.min(requestedMax, longest),
    answerTokensMax: longest,
    options: catalog.can(model, "tools") ? options : { ...options, tools: undefined },
    isThinking: catalog.can(model, "thinking"),
    asksForReasoning: showsReasoning || needsActivity(timeoutsOf(model)),
    pause,
  };
  return { provider, providerRequest };
}
