/*
 * The words of src/ai, each with one meaning:
 *
 * answer    the text of one message, whichever models wrote it
 * run       one call of the chain: models are asked until one of them ends the answer, or the step
 * step      what a model writes between two rounds of tool calls; each step is a run of its own
 * attempt   one request to one model; a run makes one, or several when models fail
 * turn      what one side of a conversation says, in the form that providers take (providers/map-conversation.ts)
 * part      a piece of what a provider or a run gives
 * push      how parts travel: whoever has a part calls the next function with it, in the same tick
 *
 * The way of a part: transport (bytes) > provider > watchdog > attempt > run > the reader of the answer. Each layer is a
 * function of a request and a `push`, and fulfils with how it ended. Only the end is a promise; a delta never is.
 */

import type { PauseSignal } from "./pause-signal.ts";

/** What a provider is asked: the whole conversation, already cut to fit, in the shape that all of them share. */
export type ChatMessage =
  /** `name`: who speaks, where there are several people. */
  | { role: "system" | "user"; content: string; name?: string }
  | { role: "assistant"; content: string; toolCalls?: readonly ToolCall[] }
  /** What a call of the assistant message before it gave. */
  | { role: "tool"; content: string; toolCallId: string };

/** A function that the model may call. */
export type Tool = {
  /** Letters, digits, `_` and `-`, at most TOOL_NAME_CHARS_MAX of them. */
  name: string;
  description: string | null;
  /** JSON schema of the arguments, an object. */
  parameters: Readonly<Record<string, unknown>>;
  /** Whether the provider is to force the arguments into the schema, where it can. */
  isStrict?: boolean;
};

export const TOOL_NAME_CHARS_MAX = 64;

/** A call that a model has made. `arguments` is what it wrote: it should be JSON, and sometimes is not. */
export type ToolCall = { id: string; name: string; arguments: string };

export type ToolChoice = "auto" | "none" | "required" | { name: string };

/** What a request may ask for beyond its messages; what a provider does not know is left out there. */
export type AnswerOptions = {
  tools?: readonly Tool[] | undefined;
  toolChoice?: ToolChoice | null | undefined;
  areParallelToolCallsAllowed?: boolean | null | undefined;
  temperature?: number | null | undefined;
  topP?: number | null | undefined;
  /** Texts that end the answer before them. */
  stop?: readonly string[] | undefined;
};

export type ProviderRequest = {
  /** The provider's own name of the model, without our `provider/` prefix. */
  model: string;
  messages: ChatMessage[];
  /** The beginning of the answer, when another attempt wrote it and broke off: the answer goes on from there. */
  partial: string | null;
  /** Most tokens of the answer; null leaves it to the provider. */
  outputTokensMax: number | null;
  options: AnswerOptions;
  /** Aborting ends the stream at the provider and here. */
  signal: AbortSignal;
  /** While it is paused, the provider should be read no further. Parts that were read already may still be pushed. */
  pause: PauseSignal;
};

/** Why a model ended its answer by itself. */
export type ModelFinishReason = "stop" | "length" | "tool_calls" | "content_filter";

export type Usage = { input_tokens: number; output_tokens: number };

/** Takes a part in the tick in which it comes: on the way of every token nothing is awaited. It must not throw. */
export type Push<Part> = (part: Part) => void;

/**
 * What a provider gives before the end. The union is closed: when a kind of part is added, such as the text of thoughts,
 * the compiler names every place that has to know it.
 */
export type ProviderPart =
  | { type: "text"; text: string }
  /** The model is at work but has no text to show yet: it thinks. Pings and mere lifecycle events are none. */
  | { type: "activity" }
  /** A tool call began or goes on: from here on this step cannot be continued by another model. */
  | { type: "tool_call" }
  /** Tokens counted so far, for the case that the stream never ends properly. */
  | { type: "usage"; usage: Usage };

export type ProviderEnd =
  /** Calls come whole and only here: what a broken stream has left of one must never be carried out. */
  | { type: "finish"; reason: ModelFinishReason; usage: Usage | null; toolCalls?: readonly ToolCall[] }
  | { type: "error"; error: ProviderError };

export type ProviderErrorCode =
  /** 408, 409, 5xx, network, a stream that broke: the same request may work later. */
  | "provider_unavailable"
  | "provider_rate_limited"
  /** No first token in time, or silence in mid-stream. */
  | "provider_timeout"
  /** The request itself was refused (400, 404, 422 …); another model may still take it. */
  | "provider_refused"
  /** Key missing or wrong (401, 403). */
  | "provider_unauthorized";

/** A failure of one provider, already stripped of foreign text, status and secrets that clients must not see. */
export type ProviderError = {
  code: ProviderErrorCode;
  /** Plain sentence, safe for clients. */
  detail: string;
  /** Whether the same model may be asked again. */
  retryable: boolean;
  /** From `Retry-After`, in milliseconds. */
  retryAfterMs: number | null;
  /** For the log only: what the provider said, cut short. */
  cause: string;
};

/** One kind of model server. SDK types and foreign words stop behind this border. */
export interface Provider {
  /** The first half of the names of its models. */
  readonly name: string;
  /**
   * Asks a model, pushes what it gives, and fulfils with how that ended. It should not reject. After the request's signal
   * has aborted, whatever it does is ignored.
   */
  stream(request: ProviderRequest, push: Push<ProviderPart>): Promise<ProviderEnd>;
}
