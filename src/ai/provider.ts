/** What a provider is asked: the whole conversation, already cut to fit, in the shape that all of them share. */
export type ChatMessage = { role: "system" | "user" | "assistant"; content: string };

export type ProviderRequest = {
  /** The provider's own name of the model, without our `provider/` prefix. */
  model: string;
  messages: ChatMessage[];
  /** The beginning of the answer, when another run wrote it and broke off: the answer goes on from there. */
  partial: string | null;
  /** Most tokens of the answer; null leaves it to the provider. */
  outputTokensMax: number | null;
  /** Aborting ends the stream at the provider and here. */
  signal: AbortSignal;
};

/** Why a model ended its answer by itself. */
export type FinishReason = "stop" | "length" | "tool_calls" | "content_filter";

export type Usage = { input_tokens: number; output_tokens: number };

/**
 * What a provider's stream is made of: any parts, then exactly one `finish` or one `error`, the last part. A stream
 * never throws: errors are parts of it. Aborted by the signal, it just ends.
 */
export type StreamPart =
  | { type: "text"; text: string }
  /** The model is at work but has no text to show yet: it thinks. Pings and mere lifecycle events are none. */
  | { type: "activity" }
  /** A tool call began: from here on the answer cannot be continued by another model. */
  | { type: "tool_call" }
  /** Tokens counted so far, for the case that the stream never ends properly. */
  | { type: "usage"; usage: Usage }
  | { type: "finish"; reason: FinishReason; usage: Usage | null }
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

export type ProviderName = "openai" | "anthropic" | "compatible" | "offline";

/** One kind of model server. SDK types and foreign words stop behind this border. */
export interface Provider {
  readonly name: ProviderName;
  stream(request: ProviderRequest): AsyncIterable<StreamPart>;
}
