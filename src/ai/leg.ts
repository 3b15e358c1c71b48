import { type Answer, open, roomLeft, show } from "./answer.ts";
import type { Pass } from "./breaker.ts";
import type { ChainObserver, ChainPart } from "./chain-part.ts";
import type { LedgerEntry } from "./ledger.ts";
import type { ChatMessage, FinishReason, Provider, ProviderError, StreamPart } from "./provider.ts";
import { createProviderError } from "./provider-error.ts";
import { createSeam } from "./seam.ts";
import { createTextFlow } from "./text-flow.ts";
import { watch } from "./watchdog.ts";

export type LegOptions = {
  providers: ReadonlyMap<string, Provider>;
  firstTokenTimeoutMs: number;
  idleTimeoutMs: number;
  observe: ChainObserver;
};

export type LegRequest = {
  messages: readonly ChatMessage[];
  signal: AbortSignal;
  outputTokensMax?: number | null;
};

export type LegOutcome =
  | { type: "finish"; reason: FinishReason }
  /** Not continuable: the reader has seen text and a tool call began, which a second model would make again. */
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
  const partial = answer.shown.trim() === "" ? null : answer.shown;
  const seam = createSeam(partial ?? "");
  const flow = createTextFlow(roomLeft(answer));
  const stream = watch(openStream(options, request, model, partial), { ...options, signal });
  let hasToolCall = false;
  let outcome: LegOutcome | null = null;
  let isClosed = false;

  function fail(error: ProviderError): void {
    outcome = { type: "failed", error, isContinuable: !hasToolCall || answer.shown === "" };
  }

  function takeText(text: string): ChainPart[] {
    if (entry.textLength === 0) {
      pass.prove();
      observe.onFirstToken?.(model, secondsSoFar());
    }
    entry.textLength += text.length;
    const parts = show(answer, model, flow.push(seam.push(text)));
    if (flow.isFull()) outcome = { type: "finish", reason: "length" };
    return parts;
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
      if (answer.isOpening) parts.push(open(answer, model));
      outcome = { type: "finish", reason: part.reason };
    } else if (part?.type === "error") fail(part.error);
    else fail(createProviderError("provider_unavailable", "the provider's stream ended without a last part"));
    return parts;
  }

  function take(part: StreamPart | null): ChainPart[] {
    if (part?.type === "text") return takeText(part.text);
    if (part === null || part.type === "finish" || part.type === "error") return takeEnd(part);
    if (part.type === "tool_call") hasToolCall = true;
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

function openStream(options: LegOptions, request: LegRequest, model: string, partial: string | null) {
  const slash = model.indexOf("/");
  const name = model.slice(slash + 1);
  const provider = options.providers.get(model.slice(0, slash));
  if (!provider) throw new Error(`There is no provider for the model ${model}.`);
  const messages = [...request.messages];
  const outputTokensMax = request.outputTokensMax ?? null;
  return (signal: AbortSignal): AsyncIterable<StreamPart> =>
    provider.stream({ model: name, messages, partial, outputTokensMax, signal });
}
