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
import { type GetTimeouts, THINKING_TIMEOUT_MS } from "../timeouts.ts";
import { mergeUsageReports } from "../usage.ts";
import {
  type AnswerState,
  countRemainingChars,
  getPartialText,
  openAnswer,
  recordWriter,
  restartStep,
  showText,
} from "./answer.ts";
import { createFenceFilter } from "./fence-filter.ts";
import { createOverlapTrimmer } from "./overlap-trimmer.ts";
import { createReasoningReader } from "./reasoning-reader.ts";
import { rejectBlankAnswer } from "./reject-blank-answer.ts";
import { createStopFilter } from "./stop-filter.ts";
import { createTextCleaner } from "./text-cleaner.ts";
import { createThinkFilter } from "./think-filter.ts";
import { countUsage } from "./usage.ts";
import { watchStream } from "./watchdog.ts";

export type AttemptOptions = {
  providers: ReadonlyMap<string, Provider>;
  catalog: Catalog;
  getTimeouts: GetTimeouts;
  observer: ChainObserver;
  shouldShowReasoning: boolean;
};

export type AttemptRequest = {
  messages: readonly ChatMessage[];
  signal: AbortSignal;
  pause: PauseSignal;
  outputTokensMax?: number | null;
  /** Whether to trim the messages and the answer's maximum length to each model's own limits. */
  shouldFitModelLimits?: boolean;
  /** Index of the first message that is never trimmed. The default is the last user message. */
  questionIndex?: number;
  options?: AnswerOptions;
  /** Called once per attempt, when the first bytes of the response body arrive. */
  onActivity?: (() => void) | undefined;
  /** Deadline of the whole answer, on the clock of `performance.now()`. */
  deadlineMs: number;
  logContext?: RunContext;
};

/** Reports an attempt's outcome. The first call of `succeed`, `fail` or `release` ends it; later calls have no effect. */
export type AttemptReport = {
  recordFirstToken(): void;
  succeed(): void;
  fail(failure?: { retryAfterMs: number | null; logContext?: RunContext | undefined }): void;
  /** Ends the attempt without counting it, for example because the user stopped it or the request was invalid. */
  release(): void;
};

export type AttemptOutcome = { usage: RunUsage | null } & (
  | { type: "finish"; reason: ModelFinishReason; toolCalls: readonly ToolCall[]; thinking: Thinking | undefined }
  /** `isContinuable` is false once a tool call has begun: another model has to start the step over. */
  | { type: "failed"; error: ProviderError; isContinuable: boolean }
  | { type: "aborted" }
  /** The deadline of the whole answer has passed. */
  | { type: "expired" }
);

/** Sends one request to one model, which writes or continues `answer`, and pushes its parts. */
export async function makeAttempt(
  options: AttemptOptions,
  request: AttemptRequest,
  answer: AnswerState,
  { model, report }: { model: string; report: AttemptReport },
  push: PushPart<AnswerPart>,
): Promise<AttemptOutcome> {
  const { observer } = options;
  const attemptObserver = observer.onAttempt?.(model, request.logContext);
  const startedMs = performance.now();
  const getElapsedSeconds = () => (performance.now() - startedMs) / 1000;
  const partial = getPartialText(answer);
  const trimmer = createOverlapTrimmer(partial ?? "");
  const cleaner = createTextCleaner(countRemainingChars(answer), (text) => showText(answer, model, text, push));
  const pushReasoning = options.shouldShowReasoning ? push : null;
  const reasoningReader = createReasoningReader(answer, model, pushReasoning);
  const thinkFilter = createThinkFilter(addReasoning);
  const fenceFilter = request.options?.format ? createFenceFilter() : null;
  const stopFilter = createStopFilter(request.options?.stop);
  const initialLength = answer.text.length;
  const timeouts = options.getTimeouts(model);
  const { provider, providerRequest } = prepareRequest(options, request, model, partial);
  let hasText = false;
  let hasToolCall = false;
  let hasActivity = false;
  let hasReasoning = false;
  let reportedUsage: ReportedUsage | null = null;

  function addReasoning(text: string): void {
    hasReasoning = true;
    reasoningReader.push(text);
  }

  function addText(text: string): void {
    if (text === "") return;
    if (!hasText) {
      hasText = true;
      report.recordFirstToken();
      observer.onFirstToken?.(model, getElapsedSeconds());
    }
    reasoningReader.endBlock();
    cleaner.push(trimmer.push(fenceFilter ? fenceFilter.push(text) : text));
  }

  function handlePart(part: ProviderPart): ProviderEnd | undefined {
    switch (part.type) {
      case "text":
        attemptObserver?.onChunk();
        addText(stopFilter.push(thinkFilter.push(part.text)));
        if (stopFilter.isStopped()) return { type: "finish", reason: "stop", usage: null };
        return cleaner.isFull() ? { type: "finish", reason: "length", usage: null } : undefined;
      case "tool_call":
        attemptObserver?.onChunk();
        if (!hasToolCall) report.recordFirstToken();
        hasToolCall = true;
        reasoningReader.endBlock();
        return undefined;
      case "usage":
        reportedUsage = mergeUsageReports(reportedUsage, part.usage);
        return undefined;
      case "reasoning":
        attemptObserver?.onChunk();
        addReasoning(part.text);
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

  const streamEnd = await watchStream(
    (signal, pushPart) => provider.stream({ ...providerRequest, idleTimeoutMs: timeouts.idleMs, signal }, pushPart),
    {
      signal: request.signal,
      pause: request.pause,
      firstTokenTimeoutMs: timeouts.firstTokenMs,
      idleTimeoutMs: timeouts.idleMs,
      deadlineMs: request.deadlineMs,
    },
    handlePart,
  );
  if (streamEnd.type !== "aborted") {
    addText(stopFilter.push(thinkFilter.end()) + stopFilter.end());
    cleaner.push(trimmer.push(fenceFilter?.end() ?? "") + trimmer.end());
  }
  const { toolCalls = [], usage: finalUsage = null } = streamEnd.type === "finish" ? streamEnd : {};
  const hasOutput = hasText || hasToolCall || hasReasoning || toolCalls.length > 0;
  const hasAddedNothing = partial !== null && !hasOutput && !finalUsage?.output_tokens;
  // If the text starts with a stop sequence, an empty answer is valid.
  const end = stopFilter.isStopped() ? streamEnd : rejectBlankAnswer(streamEnd, answer.text, hasAddedNothing);
  // A blank answer may have shown whitespace.
  if (end !== streamEnd && partial === null) restartStep(answer);
  if (end.type === "finish") {
    if (!answer.isOpen) openAnswer(answer, model, push);
    recordWriter(answer, model);
  }
  const usage = countUsage({
    providerRequest,
    hasOutput,
    getWrittenText: () => answer.text.slice(initialLength) + trimmer.getHiddenText(),
    toolCalls,
    reasoning: reasoningReader.getAllReasoning(),
    reported: mergeUsageReports(reportedUsage, finalUsage),
    isOutputFinal: typeof finalUsage?.output_tokens === "number",
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

  /** Reports the outcome to the circuit breaker and the metrics. */
  function reportEnd(attemptEnd: typeof end): void {
    const error = attemptEnd.type === "error" ? attemptEnd.error : null;
    if (attemptEnd.type === "finish") report.succeed();
    // The model isn't at fault if the request was rejected or the answer reached its maximum length. The same is true of an
    // expired deadline, because other models may have used up the time.
    const isHealthy =
      error?.code === "provider_refused" || (streamEnd.type === "finish" && streamEnd.reason === "length");
    if (error && !isHealthy) report.fail({ retryAfterMs: error.retryAfterMs, logContext: request.logContext });
    report.release();
    const outcomes = { finish: "complete", error: "failed", aborted: "aborted", expired: "failed" } as const;
    const code = attemptEnd.type === "expired" ? "provider_timeout" : (error?.code ?? null);
    const finishReason = attemptEnd.type === "finish" ? attemptEnd.reason : null;
    attemptObserver?.onEnd({ outcome: outcomes[attemptEnd.type], code, finishReason, usage });
  }
}

/** Whether a model could time out while it is thinking without sending anything. */
const needsActivity = ({ firstTokenMs, idleMs }: ReturnType<GetTimeouts>): boolean =>
  Math.min(firstTokenMs, idleMs) < THINKING_TIMEOUT_MS;

/** Returns a model's provider and the request to send to it. */
function prepareRequest(
  { providers, catalog, getTimeouts, shouldShowReasoning }: AttemptOptions,
  {
    messages,
    outputTokensMax = null,
    shouldFitModelLimits = false,
    questionIndex,
    options = {},
    pause,
  }: AttemptRequest,
  model: string,
  partial: string | null,
): { provider: Provider; providerRequest: Omit<ProviderRequest, "signal"> } {
  const slash = model.indexOf("/");
  const provider = providers.get(model.slice(0, slash));
  if (!provider) throw new Error(`No provider is configured for the model ${model}.`);
  const budget = catalog.getBudget(model);
  const modelOutputMax = budget.outputTokensMax;
  const requestedMax = outputTokensMax ?? (shouldFitModelLimits ? modelOutputMax : null);
  const providerRequest = {
    model: model.slice(slash + 1),
    messages: shouldFitModelLimits ? fitMessages(messages, budget.inputTokens, questionIndex) : [...messages],
    partial,
    // The client's own limit is capped too, because a fallback model may have a lower maximum.
    outputTokensMax:
      requestedMax === null || modelOutputMax === null ? requestedMax : Math.min(requestedMax, modelOutputMax),
    answerTokensMax: modelOutputMax,
    options: catalog.hasCapability(model, "tools") ? options : { ...options, tools: undefined },
    canThink: catalog.hasCapability(model, "thinking"),
    shouldRequestReasoning: shouldShowReasoning || needsActivity(getTimeouts(model)),
    pause,
  };
  return { provider, providerRequest };
}
