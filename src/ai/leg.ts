import { type Answer, findPartial, open, roomLeft, show } from "./answer.ts";
import type { Pass } from "./breaker.ts";
import type { ChainObserver, ChainPart } from "./chain-part.ts";
import { fitMessages } from "./fit-messages.ts";
import type { LedgerEntry } from "./ledger.ts";
import type { BudgetOf, ModelBudget } from "./model-budget.ts";
import type {
  AnswerOptions,
  ChatMessage,
  FinishReason,
  PartStream,
  Provider,
  ProviderError,
  StreamPart,
  ToolCall,
} from "./provider.ts";
import { createProviderError } from "./provider-error.ts";
import { createSeam } from "./seam.ts";
import { createTextFlow } from "./text-flow.ts";
import { watch } from "./watchdog.ts";

/** Near the end of what an answer may hold texts are looked at one by one; far more than a seam holds back. */
const ROOM_MIN = 16_384;

export type LegOptions = {
  providers: ReadonlyMap<string, Provider>;
  firstTokenTimeoutMs: number;
  idleTimeoutMs: number;
  observe: ChainObserver;
  budgetOf: BudgetOf;
};

export type LegRequest = {
  messages: readonly ChatMessage[];
  signal: AbortSignal;
  outputTokensMax?: number | null;
  /** Whether each model gets only what fits its own budget, and is asked for no longer answer than it can give. */
  isFitted?: boolean;
  options?: AnswerOptions;
  /**
   * Takes texts in the tick in which they come, while the caller waits for the next part: they then come as parts no
   * more. Those that something has to be said before (a start, a reset) come as parts all the same. It must not throw.
   */
  onText?(text: string): void;
};

export type LegOutcome =
  | { type: "finish"; reason: FinishReason; toolCalls: readonly ToolCall[] }
  /** Not continuable once a tool call began: another model can only make the whole turn anew. */
  | { type: "failed"; error: ProviderError; isContinuable: boolean }
  | { type: "aborted" };

/** One request to one model within a run. */
export type Leg = {
  /** What to show next; the leg is over once `outcome` is set. Never rejects. */
  read(): Promise<ChainPart[]>;
  outcome(): LegOutcome | null;
  /** Ends the request at the provider, if it still runs, and closes the books: breaker, tokens, metrics. */
  close(): void;
};

/** Asks one model to write `answer`, or to go on with it. */
export function startLeg(
  options: LegOptions,
  request: LegRequest,
  answer: Answer,
  { model, pass, entry }: { model: string; pass: Pass; entry: LedgerEntry },
): Leg {
  const { observe } = options;
  const { signal } = request;
  const startedMs = performance.now();
  const secondsSoFar = () => (performance.now() - startedMs) / 1000;
  const partial = findPartial(answer);
  const seam = createSeam(partial ?? "");
  const flow = createTextFlow(roomLeft(answer));
  const stream = watch(openStream(options, request, model, partial), {
    ...options,
    signal,
    ...(request.onText && { takeText: forward }),
  });
  let hasToolCall = false;
  let outcome: LegOutcome | null = null;
  let isClosed = false;

  function fail(error: ProviderError): void {
    outcome = { type: "failed", error, isContinuable: !hasToolCall };
  }

  function takeText(text: string): ChainPart[] {
    if (entry.textLength === 0) {
      pass.prove();
      observe.onFirstToken?.(model, secondsSoFar());
    }
    entry.textLength += text.length;
    const parts = show(answer, model, flow.push(seam.push(text)));
    if (flow.isFull()) outcome = { type: "finish", reason: "length", toolCalls: [] };
    return parts;
  }

  /** The short way of a text: no promise stands between its packet and its reader. */
  function forward(text: string): boolean {
    const isPlain = entry.textLength > 0 && answer.opening === null && roomLeft(answer) > text.length + ROOM_MIN;
    if (!isPlain || !request.onText) return false;
    entry.textLength += text.length;
    for (const shown of flow.push(seam.push(text))) {
      answer.shown += shown;
      request.onText(shown);
    }
    return true;
  }

  function takeEnd(part: StreamPart | null): ChainPart[] {
    if (part === null && signal.aborted) {
      outcome = { type: "aborted" };
      return [];
    }
    const parts = show(answer, model, flow.push(seam.end()));
    if (part?.type === "finish") {
      entry.reported = part.usage ?? entry.reported;
      entry.isFinal = part.usage !== null;
      if (answer.opening) parts.push(...open(answer, model));
      const { reason, toolCalls = [] } = part;
      for (const call of toolCalls) entry.textLength += call.name.length + call.arguments.length;
      outcome = { type: "finish", reason, toolCalls };
    } else if (part?.type === "error") fail(part.error);
    else fail(createProviderError("provider_unavailable", "the provider's stream ended without a last part"));
    return parts;
  }

  function take(part: StreamPart | null): ChainPart[] {
    if (part?.type === "text") return takeText(part.text);
    if (part === null || part.type === "finish" || part.type === "error") return takeEnd(part);
    if (part.type === "tool_call" && !hasToolCall) {
      hasToolCall = true;
      pass.prove();
    }
    if (part.type === "usage") entry.reported = part.usage;
    return [];
  }

  function close(): void {
    if (isClosed) return;
    isClosed = true;
    stream.close();
    const { type, error } = outcome?.type === "failed" ? outcome : { type: outcome?.type ?? "aborted", error: null };
    if (type === "finish") pass.succeed();
    // A refused request says nothing about the model's health.
    if (error && error.code !== "provider_refused") pass.fail(error);
    pass.leave();
    observe.onLeg?.(model, type === "finish" ? "complete" : type, secondsSoFar(), error?.code ?? null);
    if (!entry.reported) return;
    observe.onTokens?.(model, "input", entry.reported.input_tokens);
    observe.onTokens?.(model, "output", entry.reported.output_tokens);
  }

  return { read: () => stream.next().then(take), outcome: () => outcome, close };
}

function fit(
  { messages, outputTokensMax = null, isFitted = false }: LegRequest,
  budget: ModelBudget,
): { messages: ChatMessage[]; outputTokensMax: number | null } {
  if (!isFitted) return { messages: [...messages], outputTokensMax };
  const limits = [outputTokensMax, budget.outputTokensMax].filter((limit) => limit !== null);
  return {
    messages: fitMessages(messages, budget.inputTokens),
    outputTokensMax: limits.length === 0 ? null : Math.min(...limits),
  };
}

function openStream(options: LegOptions, request: LegRequest, model: string, partial: string | null) {
  const slash = model.indexOf("/");
  const name = model.slice(slash + 1);
  const provider = options.providers.get(model.slice(0, slash));
  if (!provider) throw new Error(`There is no provider for the model ${model}.`);
  const { options: answerOptions = {} } = request;
  const { messages, outputTokensMax } = fit(request, options.budgetOf(model));
  return (signal: AbortSignal): PartStream =>
    provider.stream({ model: name, messages, partial, outputTokensMax, options: answerOptions, signal });
}
