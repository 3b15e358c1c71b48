/*
 * Terms used in src/ai:
 *
 * answer    the text of one message, which several models may have written
 * run       one call of the failover chain: it tries models until one completes the answer or the step
 * step      the text between two rounds of tool calls; each step has its own run
 * attempt   one request to one model; if a model fails, the run makes another attempt
 * turn      consecutive messages with the same role, merged for providers (providers/map-conversation.ts)
 * part      a chunk of the output of a provider or a run
 * push      a callback that passes a part to the next layer in the same tick
 *
 * A part passes through these layers: transport (bytes) > provider > watchdog > attempt > run > the reader of the answer.
 * Each layer is a function that takes a request and a `push`, and resolves when its stream has ended.
 */

import type { providerCodes } from "../lib/error-codes.ts";
import type { ReasoningEffort } from "../protocol/reasoning-effort.ts";
import type { ExtraFields } from "./extra-fields.ts";
import type { PauseSignal } from "./pause-signal.ts";
import type { Api } from "./wire-format.ts";

/** One message of a request to a model, in a format that doesn't depend on the provider. */
export type ChatMessage =
  /** `name` is the speaker in a group conversation. */
  | { role: "system" | "user"; content: string; name?: string }
  | { role: "assistant"; content: string; toolCalls?: readonly ToolCall[]; thinking?: Thinking | undefined }
  /** The result of a call in the preceding assistant message. */
  | { role: "tool"; content: string; toolCallId: string };

/** A function that the model may call. */
export type Tool = {
  /** At most TOOL_NAME_CHARS_MAX letters, digits, `_` and `-`. */
  name: string;
  description: string | null;
  /** JSON schema of the arguments object. */
  parameters: Readonly<Record<string, unknown>>;
  /** Whether the provider should enforce the schema on the arguments, if it can. */
  isStrict?: boolean;
};

export const TOOL_NAME_CHARS_MAX = 64;

/** A model's call to a tool. `arguments` is the model's text, which may be invalid JSON. */
export type ToolCall = { id: string; name: string; arguments: string };

export type ToolChoice = "auto" | "none" | "required" | { name: string };

/**
 * A provider's record of a model's thinking: signed blocks, encrypted items or call signatures. It must be sent back
 * unchanged together with the resulting tool calls, and only to the same provider.
 */
export type Thinking = {
  /** `Provider.name` */
  provider: string;
  /** JSON in the provider's own format. */
  data: unknown;
};

/** The required format of an answer: any JSON object, or JSON that is valid for a schema. */
export type AnswerFormat =
  | { type: "json_object" }
  | {
      type: "json_schema";
      /** Follows the same rules as tool names. */
      name: string;
      description?: string | undefined;
      /** JSON schema. */
      schema: Readonly<Record<string, unknown>>;
      /** Whether the provider should enforce the schema on the answer, if it can. */
      isStrict?: boolean | undefined;
    };

/** Options of a request to a model. Providers ignore the ones they don't support. */
export type AnswerOptions = {
  tools?: readonly Tool[] | undefined;
  toolChoice?: ToolChoice | null | undefined;
  canCallToolsInParallel?: boolean | null | undefined;
  temperature?: number | null | undefined;
  topP?: number | null | undefined;
  /** Stop sequences. They apply even if the provider doesn't support them. */
  stop?: readonly string[] | undefined;
  /** How much the model thinks before it answers. If null, the provider decides. */
  reasoningEffort?: ReasoningEffort | null | undefined;
  /** If null, the answer may be any text. */
  format?: AnswerFormat | null | undefined;
  extra?: ExtraFields | undefined;
};

export type ProviderRequest = {
  /** The provider's own model name, without Parley's `provider/` prefix. */
  model: string;
  messages: ChatMessage[];
  /** The start of the answer, if an earlier attempt wrote it and failed. The model continues it. */
  partial: string | null;
  /** Maximum tokens of the answer. If null, the provider decides. */
  outputTokensMax: number | null;
  /** The model's own maximum, for providers that require a number. Null if unknown. */
  answerTokensMax?: number | null;
  options: AnswerOptions;
  /** Whether the model may think before it answers. */
  canThink: boolean;
  /**
   * Whether to request the reasoning from a provider that doesn't send it by default. The reasoning is shown, or it keeps a
   * thinking model from timing out. The default is true.
   */
  shouldRequestReasoning?: boolean;
  /** Idle timeout after the first text. Providers must not wait for data any longer than this. */
  idleTimeoutMs?: number | undefined;
  /** Ends the stream, here and at the provider. */
  signal: AbortSignal;
  /** During a pause, nothing should be read from the provider. Parts that were already read may still be pushed. */
  pause: PauseSignal;
};

/** Why a model ended its answer. */
export type ModelFinishReason = "stop" | "length" | "tool_calls" | "content_filter";

/** Token usage of an attempt or a run. */
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

/** Token usage reported by a provider. Missing or implausible counts are null and will be estimated. */
export type ReportedUsage = Omit<Usage, "input_tokens" | "output_tokens"> & {
  input_tokens: number | null;
  output_tokens: number | null;
};

/** Receives each part as soon as it arrives, in the same tick. Must not throw. */
export type PushPart<Part> = (part: Part) => void;

/**
 * A part that a provider pushes before the end. The union is closed, so the compiler finds all code that must process a new
 * type.
 */
export type ProviderPart =
  | { type: "text"; text: string }
  /** The model's reasoning. Empty if the provider only reports that the model is reasoning. */
  | { type: "reasoning"; text: string }
  /** Bytes of the response have arrived, including pings and comments. `isHead` is true for the HTTP headers. */
  | { type: "activity"; isHead: boolean }
  /** A tool call began or continues. Another model can no longer continue this step. */
  | { type: "tool_call" }
  /** The token counts up to this part, in case the stream breaks. */
  | { type: "usage"; usage: ReportedUsage };

export type ProviderEnd =
  /** `toolCalls` contains only complete calls, because the incomplete calls of a broken stream must not be executed. */
  | {
      type: "finish";
      reason: ModelFinishReason;
      usage: ReportedUsage | null;
      toolCalls?: readonly ToolCall[];
      thinking?: Thinking | undefined;
    }
  | { type: "error"; error: ProviderError };

export type ProviderErrorCode = keyof typeof providerCodes;

/** A provider's failure. `cause` is only for the log; the other fields are safe for clients. */
export type ProviderError = {
  code: ProviderErrorCode;
  /** Error message for clients. */
  detail: string;
  /** Whether the same model may be retried. */
  retryable: boolean;
  /** From `Retry-After`, in milliseconds. */
  retryAfterMs: number | null;
  /** The HTTP status of the response or of an error event. */
  status: number | null;
  /** The provider's own error code. */
  providerCode: string | null;
  /** The request parameter that the provider rejected. */
  param: string | null;
  /** The provider's message, truncated. Only for the log. */
  cause: string;
};

/** A client of one provider. Other code never uses the provider's SDK types and terms. */
export interface Provider {
  /** The first part of its models' names. */
  readonly name: string;
  /** The wire format, which determines the supported options. Undefined if the provider isn't called over the network. */
  readonly api?: Api;
  /**
   * Sends a request to a model, pushes the parts of the response, and resolves when the response has ended. Should not reject.
   * Once the request's signal has aborted, everything that is pushed or returned is ignored.
   */
  stream(request: ProviderRequest, push: PushPart<ProviderPart>): Promise<ProviderEnd>;
}
