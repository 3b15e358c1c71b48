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

import type { providerCodes } from "../lib/error-codes.ts";
import type { ReasoningEffort } from "../protocol/reasoning-effort.ts";
import type { ExtraFields } from "./extra-fields.ts";
import type { PauseSignal } from "./pause-signal.ts";
import type { Api } from "./wire-format.ts";

/** What a provider is asked: the whole conversation, already cut to fit, in the shape that all of them share. */
export type ChatMessage =
  /** `name`: who speaks, where there are several people. */
  | { role: "system" | "user"; content: string; name?: string }
  | { role: "assistant"; content: string; toolCalls?: readonly ToolCall[]; thinking?: Thinking | undefined }
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

/**
 * What a provider gave of a model's thinking, to be sent back unchanged with the calls that it led to: signed blocks, encrypted
 * items, signatures of calls. Only the provider that gave it can read it, and others refuse it or must not see it.
 */
export type Thinking = {
  /** The provider (`Provider.name`) whose `data` it is: no other one is sent it. */
  provider: string;
  /** JSON in the provider's own words. */
  data: unknown;
};

/** The form that an answer must have: any JSON object, or JSON that a schema accepts. */
export type AnswerFormat =
  | { type: "json_object" }
  | {
      type: "json_schema";
      /** As in names of tools. */
      name: string;
      description?: string | undefined;
      /** JSON schema. */
      schema: Readonly<Record<string, unknown>>;
      /** Whether the provider is to force the answer into the schema, where it can. */
      isStrict?: boolean | undefined;
    };

/** What a request may ask for beyond its messages; what a provider does not know is left out there. */
export type AnswerOptions = {
  tools?: readonly Tool[] | undefined;
  toolChoice?: ToolChoice | null | undefined;
  areParallelToolCallsAllowed?: boolean | null | undefined;
  temperature?: number | null | undefined;
  topP?: number | null | undefined;
  /** Texts that end the answer before them, whether or not the provider knows such a parameter. */
  stop?: readonly string[] | undefined;
  /** How much the model thinks before it answers; null leaves it to the provider. */
  reasoningEffort?: ReasoningEffort | null | undefined;
  /** Null: text of any form. */
  format?: AnswerFormat | null | undefined;
  /** Passed on as it is. A model whose provider does not take all of it is not asked. */
  extra?: ExtraFields | undefined;
};

export type ProviderRequest = {
  /** The provider's own name of the model, without our `provider/` prefix. */
  model: string;
  messages: ChatMessage[];
  /** The beginning of the answer, when another attempt wrote it and broke off: the answer goes on from there. */
  partial: string | null;
  /** Most tokens of the answer; null leaves it to the provider. */
  outputTokensMax: number | null;
  /** Tokens of the longest answer that the model can give, for providers that want a number; null: not known. */
  answerTokensMax?: number | null;
  options: AnswerOptions;
  /** Whether the model may reason before it answers: a provider that tells about that only on request is asked to. */
  isThinking: boolean;
  /** So long a silence behind the first text is a failure: what a provider waits for by itself has to end before. */
  idleTimeoutMs?: number | undefined;
  /** Aborting ends the stream at the provider and here. */
  signal: AbortSignal;
  /** While it is paused, the provider should be read no further. Parts that were read already may still be pushed. */
  pause: PauseSignal;
};

/** Why a model ended its answer by itself. */
export type ModelFinishReason = "stop" | "length" | "tool_calls" | "content_filter";

/** Tokens of an attempt or of a run. */
export type Usage = {
  /** All of the prompt, with what was read from a cache or written to one. */
  input_tokens: number;
  /** All that the model wrote, with its reasoning. */
  output_tokens: number;
  /** The part of `input_tokens` that was read from the provider's cache. */
  cached_input_tokens: number;
  /** The part of `input_tokens` that was written to the provider's cache, where that has a price of its own. */
  cache_write_tokens: number;
  /** The part of `output_tokens` that was reasoning. */
  reasoning_tokens: number;
};

/** Tokens as a provider reports them. Null: it did not say, or said what cannot be; they are estimated then. */
export type ReportedUsage = Omit<Usage, "input_tokens" | "output_tokens"> & {
  input_tokens: number | null;
  output_tokens: number | null;
};

/** Takes a part in the tick in which it comes: on the way of every token nothing is awaited. It must not throw. */
export type PushPart<Part> = (part: Part) => void;

/** What a provider gives before the end. The union is closed: the compiler names every place that has to know a new kind. */
export type ProviderPart =
  | { type: "text"; text: string }
  /** What the model thinks, where the provider tells; empty where it only says that the model thinks. */
  | { type: "reasoning"; text: string }
  /** Bytes of the response came: a sign of life, whatever is in them (pings, comments, empty deltas). */
  | { type: "activity"; isHead: boolean }
  /** A tool call began or goes on: from here on this step cannot be continued by another model. */
  | { type: "tool_call" }
  /** Tokens counted so far, for the case that the stream never ends properly. */
  | { type: "usage"; usage: ReportedUsage };

export type ProviderEnd =
  /** Calls come whole and only here: what a broken stream has left of one must never be carried out. */
  | {
      type: "finish";
      reason: ModelFinishReason;
      usage: ReportedUsage | null;
      toolCalls?: readonly ToolCall[];
      thinking?: Thinking | undefined;
    }
  | { type: "error"; error: ProviderError };

/** Their meanings are in the table of error codes, which clients can read. */
export type ProviderErrorCode = keyof typeof providerCodes;

/** A failure of one provider, already stripped of foreign text, status and secrets that clients must not see. */
export type ProviderError = {
  code: ProviderErrorCode;
  /** Plain sentence, safe for clients. */
  detail: string;
  /** Whether the same model may be asked again. */
  retryable: boolean;
  /** From `Retry-After`, in milliseconds. */
  retryAfterMs: number | null;
  /** The HTTP status of the failure, also where an error event names one; null: there was none. */
  status: number | null;
  /** The provider's own code of the error and the request's parameter at fault, both in a form that is safe for clients. */
  providerCode: string | null;
  param: string | null;
  /** For the log only: what the provider said, cut short. */
  cause: string;
};

/** One kind of model server. SDK types and foreign words stop behind this border. */
export interface Provider {
  /** The first half of the names of its models. */
  readonly name: string;
  /** Its wire format, which says what it can be asked for; absent: it is not asked over a wire. */
  readonly api?: Api;
  /**
   * Asks a model, pushes what it gives, and fulfils with how that ended. It should not reject. After the request's signal
   * has aborted, whatever it does is ignored.
   */
  stream(request: ProviderRequest, push: PushPart<ProviderPart>): Promise<ProviderEnd>;
}
