import { findClaudeFormatMistake } from "./answer-format.ts";
import type { Script } from "./script.ts";
import { signedBetween, signedBlocks } from "./thoughts.ts";
import { errorType, FOREIGN_TEXT, hasBearer, splitArguments, sse, type WireFormat } from "./wire-format.ts";

const event = (type: string, data: Record<string, unknown>): string => sse(type, { type, ...data });

const stopReasons = { stop: "end_turn", length: "max_tokens", content_filter: "refusal" } as const;

type Fields = Record<string, unknown>;
const stop = (index: number): string => event("content_block_stop", { index });
const startText = (index: number): string =>
  event("content_block_start", { index, content_block: { type: "text", text: "" } });
/** The index after the two thinking blocks, if there are any. */
const textIndex = ({ thought }: Script): number => (thought === null ? 0 : 2);

/** A thinking block as it is streamed: its text in two pieces, then its signature. */
function writeThinking(index: number, { thinking, signature }: Fields): string {
  const text = String(thinking);
  const delta = (fields: Fields) => event("content_block_delta", { index, delta: fields });
  const pieces = [text.slice(0, 3), text.slice(3)].filter((piece) => piece !== "");
  return (
    event("content_block_start", { index, content_block: { type: "thinking", thinking: "", signature: "" } }) +
    pieces.map((piece) => delta({ type: "thinking_delta", thinking: piece })).join("") +
    delta({ type: "signature_delta", signature }) +
    stop(index)
  );
}

type Block = { type: string; id?: string; tool_use_id?: string; input?: unknown };

const blocksOf = (message: { content: unknown } | undefined, type: string): Block[] =>
  Array.isArray(message?.content) ? (message.content as Block[]).filter((block) => block.type === type) : [];

/** Results must be complete, right after the calls, and first in their message. */
function findToolMistake(messages: { role: string; content: unknown }[]): string | null {
  for (const [index, message] of messages.entries()) {
    const calls = blocksOf(messages[index - 1], "tool_use").map(({ id }) => id);
    const results = blocksOf(message, "tool_result").map(({ tool_use_id }) => tool_use_id);
    if (JSON.stringify(calls) !== JSON.stringify(results))
      return "messages: each `tool_use` block must have a corresponding `tool_result` block in the next message.";
    const first = Array.isArray(message.content) ? (message.content[0] as Block) : undefined;
    if (results.length > 0 && first?.type !== "tool_result") return "messages: `tool_result` blocks must come first.";
    if (blocksOf(message, "tool_use").some(({ id }) => !/^[\w-]+$/.test(id ?? "")))
      return "messages: tool_use.id: String should match pattern '^[a-zA-Z0-9_-]+$'";
    if (blocksOf(message, "tool_use").some(({ input }) => typeof input !== "object" || input === null))
      return "messages: tool_use.input: Input should be a valid dictionary";
  }
  return null;
}

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
    const mistake = findToolMistake(messages);
    if (mistake !== null) return mistake;
    if (JSON.stringify(messages).includes('"tool_use"') && !Array.isArray(body.tools))
      return "Requests which include `tool_use` or `tool_result` blocks must define tools.";
    return body.stream === true ? findClaudeFormatMistake(body) : "The mock provider only supports streaming.";
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
    (script.thought === null ? startText(0) : "") +
    event("ping", {}),
  thinking: (_context, thinking) =>
    event("content_block_delta", { index: 0, delta: { type: "thinking_delta", thinking } }),
  thought({ model, id }) {
    const [thinking, redacted] = signedBlocks(model, id) as [Fields, Fields];
    return (
      writeThinking(0, thinking) +
      event("content_block_start", { index: 1, content_block: redacted }) +
      stop(1) +
      startText(2)
    );
  },
  delta: ({ script }, text) =>
    event("content_block_delta", { index: textIndex(script), delta: { type: "text_delta", text } }),
  toolCall(context, { index, id, name, arguments: text }, isWhole) {
    const { script, model } = context;
    // Thinking between two calls is a separate block.
    const before = textIndex(script) + index;
    const hasThought = script.thought !== null && index === 1;
    const place = { index: before + 1 + (script.thought !== null && index > 0 ? 1 : 0) };
    // Each block ends before the next begins; `close` ends the last one.
    const start =
      stop(script.thought !== null && index > 1 ? before + 1 : before) +
      (hasThought ? writeThinking(before + 1, signedBetween(model, context.id)) : "") +
      event("content_block_start", { ...place, content_block: { type: "tool_use", id, name, input: {} } });
    const pieces = isWhole ? splitArguments(text) : [];
    const deltas = pieces.map((partial_json) =>
      event("content_block_delta", { ...place, delta: { type: "input_json_delta", partial_json } }),
    );
    return start + deltas.join("");
  },
  errorEvent: () => sse("error", { type: "error", error: { type: "overloaded_error", message: FOREIGN_TEXT } }),
  close: ({ script }, _text, tokens) =>
    stop(
      textIndex(script) + script.toolCalls.length + (script.thought !== null && script.toolCalls.length > 1 ? 1 : 0),
    ) +
    event("message_delta", {
      delta: {
        stop_reason: script.toolCalls.length > 0 ? "tool_use" : stopReasons[script.finish],
        stop_sequence: null,
      },
      usage: { output_tokens: script.usage ? tokens.output : 0 },
    }) +
    event("message_stop", {}),
};
