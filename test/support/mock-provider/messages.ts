import { findClaudeFormatError } from "./answer-format.ts";
import type { Script } from "./script.ts";
import { createBlockBetweenCalls, createSignedBlocks } from "./thinking.ts";
import {
  formatSse,
  getErrorType,
  hasBearer,
  PROVIDER_INTERNAL_TEXT,
  splitArguments,
  type WireFormat,
} from "./wire-format.ts";

const formatEvent = (type: string, data: Record<string, unknown>): string => formatSse(type, { type, ...data });

const stopReasons = { stop: "end_turn", length: "max_tokens", content_filter: "refusal" } as const;

type Fields = Record<string, unknown>;
const stopBlock = (index: number): string => formatEvent("content_block_stop", { index });
const startTextBlock = (index: number): string =>
  formatEvent("content_block_start", { index, content_block: { type: "text", text: "" } });
/** Returns the index of the text block. The two thinking blocks, if any, come before it. */
const findTextIndex = ({ thinkingFormat }: Script): number => (thinkingFormat === null ? 0 : 2);

/** Formats the events of a thinking block. Its text is streamed in two pieces, and its signature follows. */
function formatThinkingBlock(index: number, { thinking, signature }: Fields): string {
  const text = String(thinking);
  const formatDelta = (fields: Fields) => formatEvent("content_block_delta", { index, delta: fields });
  const pieces = [text.slice(0, 3), text.slice(3)].filter((piece) => piece !== "");
  return (
    formatEvent("content_block_start", { index, content_block: { type: "thinking", thinking: "", signature: "" } }) +
    pieces.map((piece) => formatDelta({ type: "thinking_delta", thinking: piece })).join("") +
    formatDelta({ type: "signature_delta", signature }) +
    stopBlock(index)
  );
}

type Block = { type: string; id?: string; tool_use_id?: string; input?: unknown };

const listBlocks = (message: { content: unknown } | undefined, type: string): Block[] =>
  Array.isArray(message?.content) ? (message.content as Block[]).filter((block) => block.type === type) : [];

/** Returns Anthropic's error message, or null if the message after each set of tool calls begins with all their results. */
function findToolError(messages: { role: string; content: unknown }[]): string | null {
  for (const [index, message] of messages.entries()) {
    const calls = listBlocks(messages[index - 1], "tool_use").map(({ id }) => id);
    const results = listBlocks(message, "tool_result").map(({ tool_use_id }) => tool_use_id);
    if (JSON.stringify(calls) !== JSON.stringify(results))
      return "messages: each `tool_use` block must have a corresponding `tool_result` block in the next message.";
    const firstBlock = Array.isArray(message.content) ? (message.content[0] as Block) : undefined;
    if (results.length > 0 && firstBlock?.type !== "tool_result")
      return "messages: `tool_result` blocks must come first.";
    if (listBlocks(message, "tool_use").some(({ id }) => !/^[\w-]+$/.test(id ?? "")))
      return "messages: tool_use.id: String should match pattern '^[a-zA-Z0-9_-]+$'";
    if (listBlocks(message, "tool_use").some(({ input }) => typeof input !== "object" || input === null))
      return "messages: tool_use.input: Input should be a valid dictionary";
  }
  return null;
}

/** Anthropic's Messages API, streamed. */
export const messagesFormat: WireFormat = {
  path: "/v1/messages",
  findRequestError(body, headers) {
    if (!headers["anthropic-version"]) return "anthropic-version: header is required";
    if (typeof body.max_tokens !== "number") return "max_tokens: Field required";
    const messages = Array.isArray(body.messages) ? (body.messages as { role: string; content: unknown }[]) : [];
    if (messages.length === 0) return "messages: at least one message is required";
    if (messages.some(({ role }) => role !== "user" && role !== "assistant"))
      return "messages: Unexpected role. Only 'user' and 'assistant' are allowed.";
    if (messages.some(({ content }) => content === "")) return "messages: text content blocks must be non-empty";
    if (messages.at(-1)?.role !== "user")
      return "This model does not support assistant message prefill. The conversation must end with a user message.";
    const toolError = findToolError(messages);
    if (toolError !== null) return toolError;
    if (JSON.stringify(messages).includes('"tool_use"') && !Array.isArray(body.tools))
      return "Requests which include `tool_use` or `tool_result` blocks must define tools.";
    return body.stream === true ? findClaudeFormatError(body) : "The mock provider only supports streaming.";
  },
  // Parley sends the key as a bearer token. Anthropic's SDK sends it as `x-api-key`.
  hasKey: (headers) => hasBearer(headers) || Boolean(headers["x-api-key"]),
  createErrorBody: (status, message) => ({
    type: "error",
    error: { type: getErrorType(status), message },
    request_id: null,
  }),
  formatStart: ({ id, model, script, body }) =>
    formatEvent("message_start", {
      message: {
        id: `msg_${id}`,
        type: "message",
        role: "assistant",
        model,
        content: [],
        stop_reason: null,
        stop_sequence: null,
        usage: script.reportUsage
          ? { input_tokens: JSON.stringify(body.messages).length, output_tokens: 1 }
          : { input_tokens: 0, output_tokens: 0 },
      },
    }) +
    (script.thinkingFormat === null ? startTextBlock(0) : "") +
    formatEvent("ping", {}),
  formatThinkingDelta: (_context, thinking) =>
    formatEvent("content_block_delta", { index: 0, delta: { type: "thinking_delta", thinking } }),
  formatRequiredThinking({ model, id }) {
    const [thinking, redacted] = createSignedBlocks(model, id) as [Fields, Fields];
    return (
      formatThinkingBlock(0, thinking) +
      formatEvent("content_block_start", { index: 1, content_block: redacted }) +
      stopBlock(1) +
      startTextBlock(2)
    );
  },
  formatTextDelta: ({ script }, text) =>
    formatEvent("content_block_delta", { index: findTextIndex(script), delta: { type: "text_delta", text } }),
  formatToolCall(context, { index, id, name, arguments: text }, isComplete) {
    const { script, model } = context;
    // Thinking between two calls has its own block.
    const previousIndex = findTextIndex(script) + index;
    const hasThought = script.thinkingFormat !== null && index === 1;
    const blockIndex = { index: previousIndex + 1 + (script.thinkingFormat !== null && index > 0 ? 1 : 0) };
    // Stops the previous block before it starts the next one. `formatEnd` stops the last block.
    const startEvents =
      stopBlock(script.thinkingFormat !== null && index > 1 ? previousIndex + 1 : previousIndex) +
      (hasThought ? formatThinkingBlock(previousIndex + 1, createBlockBetweenCalls(model, context.id)) : "") +
      formatEvent("content_block_start", { ...blockIndex, content_block: { type: "tool_use", id, name, input: {} } });
    const pieces = isComplete ? splitArguments(text) : [];
    const deltas = pieces.map((partial_json) =>
      formatEvent("content_block_delta", { ...blockIndex, delta: { type: "input_json_delta", partial_json } }),
    );
    return startEvents + deltas.join("");
  },
  formatErrorEvent: () =>
    formatSse("error", { type: "error", error: { type: "overloaded_error", message: PROVIDER_INTERNAL_TEXT } }),
  formatEnd: ({ script }, _text, tokens) =>
    stopBlock(
      findTextIndex(script) +
        script.toolCalls.length +
        (script.thinkingFormat !== null && script.toolCalls.length > 1 ? 1 : 0),
    ) +
    formatEvent("message_delta", {
      delta: {
        stop_reason: script.toolCalls.length > 0 ? "tool_use" : stopReasons[script.finishReason],
        stop_sequence: null,
      },
      usage: { output_tokens: script.reportUsage ? tokens.output : 0 },
    }) +
    formatEvent("message_stop", {}),
};
