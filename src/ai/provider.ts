/*
 * Terms used in src/ai:
 *
 * answer    the text of one message, whichever models wrote it
 * run       one call of the chain: models are tried until one completes the answer or the step
 * step      what a model writes between two rounds of tool calls; each step is its own run
 * attempt   one request to one model; a run makes one, or several if models fail
 * turn      consecutive messages of one side, in the form that providers accept (providers/map-conversation.ts)
 * part      a piece of a provider's or a run's output
 * push      how parts travel: each layer calls the next one's function with the part, in the same tick
 *
 * Path of a part: transport (bytes) > provider > watchdog > attempt > run > the reader of the answer. Each layer is a
 * function of a request and a `push`, and resolves with how it ended. Only the end is a promise; a delta never is.
 */

import type { providerCodes } from "../lib/error-codes.ts";
import type { ReasoningEffort } from "../protocol/reasoning-effort.ts";
import type { ExtraFields } from "./extra-fields.ts";
import type { PauseSignal } from "./pause-signal.ts";
import type { Api } from "./wire-format.ts";

/** One message of the conversation sent to a provider, already trimmed to fit, in the shape that all providers share. */
export type ChatMessage =
  /** `name`: the speaker, in group conversations. */
  | { role: "system" | "user"; content: string; name?: string }
  | { role: "assistant"; content: string; toolCalls?: readonly ToolCall[]; thinking?: Thinking | undefined }
  /** The result of a call in the preceding assistant message. */
  | { role: "tool"; content: string; toolCallId: string };

/** A function that the model may call. */
export type Tool = {
  /** Letters, digits, `_` and `-`, at most TOOL_NAME_CHARS_MAX of them. */
  name: string;
  description: string | null;
  /** JSON schema of the arguments, which are an object. */
  parameters: Readonly<Record<string, unknown>>;
  /** Whether the provider should enforce the schema on the arguments, if it can. */
  isStrict?: boolean;
};

export const TOOL_NAME_CHARS_MAX = 64;

/** A call made by a model. `arguments` is the model's text: it should be JSON, but sometimes isn't. */
export type ToolCall = { id: string; name: string; arguments: string };

export type ToolChoice = "auto" | "none" | "required" | { name: string };

/**
 * A provider's record of a model's thinking, which must be returned unchanged with the calls that it led to: signed blocks,
 * encrypted items, call signatures. Only that provider can read it; others reject it or must not see it.
 */
export type Thinking = {
  /** The provider (`Provider.name`) that `data` belongs to; it is sent to no other. */
  provider: string;
  /** JSON in the provider's own format. */
  data: unknown;
};

/** The required format of an answer: any JSON object, or JSON that is valid for a schema. */
export type AnswerFormat =
  | { type: "json_object" }
  | {
      type: "json_schema";
      /** The same rules as for tool names. */
      name: string;
      description?: string | undefined;
      /** JSON schema. */
      schema: Readonly<Record<string, unknown>>;
      /** Whether the provider should enforce the schema on the answer, if it can. */
      isStrict?: boolean | undefined;
    };

/** Options of a request besides its messages. A provider omits those it doesn't support. */
export type AnswerOptions = {
  tools?: readonly Tool[] | undefined;
  toolChoice?: ToolChoice | null | undefined;
  areParallelToolCallsAllowed?: boolean | null | undefined;
  temperature?: number | null | undefined;
  topP?: number | null | undefined;
  /** Texts before which the answer ends, whether or not the provider supports this. */
  stop?: readonly string[] | undefined;
  /** How much the model thinks before it answers; null: the provider decides. */
  reasoningEffort?: ReasoningEffort | null | undefined;
  /** Null: any text. */
  format?: AnswerFormat | null | undefined;
  /** Passed on unchanged. Models whose provider doesn't support all of it are skipped. */
  extra?: ExtraFields | undefined;
};

export type ProviderRequest = {
  /** The provider's own model name, without Parley's `provider/` prefix. */
  model: string;
  messages: ChatMessage[];
  /** The start of the answer if another attempt wrote it and failed; the answer continues from there. */
  partial: string | null;
  /** Maximum tokens of the answer; null: the provider decides. */
  outputTokensMax: number | null;
  /** The model's maximum answer length, for providers that require a number; null: unknown. */
  answerTokensMax?: number | null;
  options: AnswerOptions;
  /** Whether the model may reason before it answers. */
  isThinking: boolean;
  /**
   * Whether to ask for reasoning from a provider that reports it only on request (default: true): either readers see it, or
   * silence would count as a failure.
   */
  asksForReasoning?: boolean;
  /** Idle timeout after the first text; waits inside the provider must end earlier. */
  idleTimeoutMs?: number | undefined;
  /** Aborting ends the stream here and at the provider. */
  signal: AbortSignal;
  /** While paused, the provider should not be read. Parts already read may still be pushed. */
  pause: PauseSignal;
};

/** Why a model ended its answer on its own. */
export type ModelFinishReason = "stop" | "length" | "tool_calls" | "content_filter";

/** Tokens of an attempt or a run. */
export type Usage = {
  /** The whole prompt, including tokens read from or written to a cache. */
  input_tokens: number;
  /** All output of the model, including reasoning. */
  output_tokens: number;
  /** The part of `input_tokens` read from the provider's cache. */
  cached_input_tokens: number;
  /** The part of `input_tokens` written to the provider's cache, if that has its own price. */
  cache_write_tokens: number;
  /** The part of `output_tokens` used for reasoning. */
  reasoning_tokens: number;
};

/** Tokens as reported by a provider. Null: missing or implausible; they are then estimated. */
export type ReportedUsage = Omit<Usage, "input_tokens" | "output_tokens"> & {
  input_tokens: number | null;
  output_tokens: number | null;
};

/** Receives a part in the tick it arrives: nothing on the path of a token awaits. Must not throw. */
export type PushPart<Part> = (part: Part) => void;

/**
 * What a provider sends before the end. The union is closed, so the compiler finds every place that has to handle a new
 * kind.
 */
export type ProviderPart =
  | { type: "text"; text: string }
  /** The model's reasoning, if the provider reports it; empty if it only reports that the model is reasoning. */
  | { type: "reasoning"; text: string }
  /** Bytes of the response arrived: a sign of life, even if they are pings, comments or empty deltas. */
  | { type: "activity"; isHead: boolean }
  /** A tool call began or continues: from here on, another model can't continue this step. */
  | { type: "tool_call" }
  /** Tokens counted so far, in case the stream never ends properly. */
  | { type: "usage"; usage: ReportedUsage };

export type ProviderEnd =
  /** Calls are complete and appear only here: incomplete calls of a broken stream must never be executed. */
  | {
      type: "finish";
      reason: ModelFinishReason;
      usage: ReportedUsage | null;
      toolCalls?: readonly ToolCall[];
      thinking?: Thinking | undefined;
    }
  | { type: "error"; error: ProviderError };

/** The table of error codes, which clients can read, explains them. */
export type ProviderErrorCode = keyof typeof providerCodes;

/** A failure of one provider, without the foreign text, status and secrets that clients must not see. */
export type ProviderError = {
  code: ProviderErrorCode;
  /** A plain sentence, safe for clients. */
  detail: string;
  /** Whether the same model may be retried. */
  retryable: boolean;
  /** From `Retry-After`, in milliseconds. */
  retryAfterMs: number | null;
  /** The HTTP status of the failure, or the one named in an error event; null: none. */
  status: number | null;
  /** The provider's own error code and the request parameter at fault, both safe for clients. */
  providerCode: string | null;
  param: string | null;
  /** For the log only: the provider's message, shortened. */
  cause: string;
};

/** One kind of model server. SDK types and provider-specific terms stay behind this interface. */
export interface Provider {
  /** The prefix of its models' names. */
  readonly name: string;
  /** Its wire format, which decides the supported options; absent: it isn't called over a network. */
  readonly api?: Api;
  /**
   * Asks a model, pushes its parts, and resolves with how it ended. It should not reject. Once the request's signal has
   * aborted, anything it does is ignored.
   */
  stream(request: ProviderRequest, push: PushPart<ProviderPart>): Promise<ProviderEnd>;
}
