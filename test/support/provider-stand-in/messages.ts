import { errorType, FOREIGN_TEXT, hasBearer, sse, type WireFormat } from "./wire-format.ts";

const event = (type: string, data: Record<string, unknown>): string => sse(type, { type, ...data });

const stopReasons = { stop: "end_turn", length: "max_tokens", content_filter: "refusal" } as const;

/** Anthropic's Messages API, streamed. */
export const messagesFormat: WireFormat = {
  path: "/v1/messages",
  findMistake(body, headers) {
    if (!headers["anthropic-version"]) return "anthropic-version: header is required";
    if (typeof body.max_tokens !== "number") return "max_tokens: Field required";
    const messages = Array.isArray(body.messages) ? (body.messages as { role: string; content: unknown }[]) : [];
    if (messages.length === 0) return "messages: at least one message is required";
    if (messages.some(({ role }) => role !== "user" && role !== "assistant"))
      return "messages: Unexpected role. Only 'user' and 'assistant' are allowed.";
    if (messages.some(({ content }) => content === "")) return "messages: text content blocks must be non-empty";
    if (messages.at(-1)?.role !== "user")
      return "This model does not support assistant message prefill. The conversation must end with a user message.";
    return body.stream === true ? null : "The stand-in only streams.";
  },
  // The SDK sends the key as a bearer token; older clients send it as x-api-key.
  hasKey: (headers) => hasBearer(headers) || Boolean(headers["x-api-key"]),
  errorBody: (status, message) => ({ type: "error", error: { type: errorType(status), message }, request_id: null }),
  open: ({ id, model, script, body }) =>
    event("message_start", {
      message: {
        id: `msg_${id}`,
        type: "message",
        role: "assistant",
        model,
        content: [],
        stop_reason: null,
        stop_sequence: null,
        usage: script.usage
          ? { input_tokens: JSON.stringify(body.messages).length, output_tokens: 1 }
          : { input_tokens: 0, output_tokens: 0 },
      },
    }) +
    event("content_block_start", { index: 0, content_block: { type: "text", text: "" } }) +
    event("ping", {}),
  thinking: () => event("content_block_delta", { index: 0, delta: { type: "thinking_delta", thinking: "Thinking. " } }),
  delta: (_context, text) => event("content_block_delta", { index: 0, delta: { type: "text_delta", text } }),
  toolCall: () =>
    event("content_block_stop", { index: 0 }) +
    event("content_block_start", {
      index: 1,
      content_block: { type: "tool_use", id: "toolu_1", name: "f", input: {} },
    }),
  errorEvent: () => sse("error", { type: "error", error: { type: "overloaded_error", message: FOREIGN_TEXT } }),
  close: ({ script }, _text, tokens) =>
    event("content_block_stop", { index: 0 }) +
    event("message_delta", {
      delta: { stop_reason: stopReasons[script.finish], stop_sequence: null },
      usage: { output_tokens: script.usage ? tokens.output : 0 },
    }) +
    event("message_stop", {}),
};
