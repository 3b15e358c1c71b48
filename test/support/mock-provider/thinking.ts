import { isDeepStrictEqual } from "node:util";
import type { AnswerContext } from "./wire-format.ts";

/**
 * The format in which a request must send back a scripted model's thinking. Like the real model, the mock provider
 * rejects a request without the thinking, or with a different model's thinking.
 * signed      Anthropic: `thinking` and `redacted_thinking` blocks before the text, and a block between two calls
 * encrypted   OpenAI Responses: reasoning items with `encrypted_content`
 * plain       DeepSeek: `reasoning_content`, only in messages with tool calls
 * signature   Gemini's OpenAI-compatible endpoint: `extra_content` of the first call
 * details     OpenRouter: `reasoning_details`, streamed in pieces
 */
export type ThinkingFormat = "signed" | "encrypted" | "plain" | "signature" | "details";

type Fields = Record<string, unknown>;
type Call = { id?: string; call_id?: string; extra_content?: unknown };

const toList = (value: unknown): Fields[] => (Array.isArray(value) ? (value as Fields[]) : []);

/** Returns the text of a model's thinking in one answer. */
export const createThinkingText = (model: string, id: string) => `Thought ${model} ${id}. `;
const createSignature = (model: string, id: string) => `signed ${model} ${id}`;

export const createSignedBlocks = (model: string, id: string): Fields[] => [
  { type: "thinking", thinking: createThinkingText(model, id), signature: createSignature(model, id) },
  { type: "redacted_thinking", data: `redacted ${model} ${id}` },
];
/** Returns the block between the first and second call of an answer. */
export const createBlockBetweenCalls = (model: string, id: string): Fields => ({
  type: "thinking",
  thinking: "",
  signature: `between ${createSignature(model, id)}`,
});
export const createReasoningItem = (model: string, id: string): Fields => ({
  type: "reasoning",
  id: `rs_${id}`,
  summary: [{ type: "summary_text", text: createThinkingText(model, id) }],
  encrypted_content: `encrypted ${model} ${id}`,
});
export const createReasoningDetails = (model: string, id: string): Fields[] => [
  {
    type: "reasoning.text",
    text: createThinkingText(model, id),
    format: "anthropic-claude-v1",
    index: 0,
    signature: createSignature(model, id),
  },
  {
    type: "reasoning.encrypted",
    data: `encrypted ${model} ${id}`,
    id: `rs_${id}`,
    format: "openai-responses-v1",
    index: 1,
  },
];
export const createExtraContent = (model: string, id: string): Fields => ({
  google: { thought_signature: createSignature(model, id) },
});

/** Returns the pieces in which OpenRouter streams the details. */
export function splitReasoningDetails(model: string, id: string): Fields[][] {
  const [text, encrypted] = createReasoningDetails(model, id) as [Fields, Fields];
  const { signature, ...unsigned } = text;
  const middle = Math.ceil(String(text.text).length / 2);
  const { format, index, type } = text;
  return [
    [{ ...unsigned, text: String(text.text).slice(0, middle) }],
    [{ type, index, format: null, text: String(text.text).slice(middle) }],
    [{ type, index, format, signature }],
    [encrypted],
  ];
}

/** Returns the id of the answer in which this model made a call, or null if a different model made the call. */
const findAnswerId = (
  modelsByCallId: ReadonlyMap<string, string>,
  model: string,
  { id, call_id }: Call,
): string | null => {
  const callId = call_id ?? id ?? "";
  return modelsByCallId.get(callId) === model ? (/^call_(\d+)_/.exec(callId)?.[1] ?? null) : null;
};

/** Returns the message of the real provider's 400 response, or null if it would accept the thinking in the request. */
export function findThinkingError(
  { model, script: { thinkingFormat }, body }: AnswerContext,
  modelsByCallId: ReadonlyMap<string, string>,
): string | null {
  const getAnswerId = (call: Call) => findAnswerId(modelsByCallId, model, call);
  switch (thinkingFormat) {
    case "signed":
      return findSignedError(model, body, getAnswerId);
    case "encrypted":
      return findEncryptedError(model, body, getAnswerId);
    case "plain":
    case "signature":
    case "details":
      return findChatError(model, thinkingFormat, toList(body.messages), getAnswerId);
    default:
      return null;
  }
}

type FindAnswerId = (call: Call) => string | null;

function findSignedError(model: string, body: Fields, getAnswerId: FindAnswerId): string | null {
  const messages = toList(body.messages);
  const isThinkingBlock = ({ type }: Fields) => type === "thinking" || type === "redacted_thinking";
  for (const [index, message] of messages.entries()) {
    const blocks = toList(message.content);
    const calls = blocks.filter(({ type }) => type === "tool_use");
    const id = calls[0] ? getAnswerId(calls[0] as Call) : null;
    const expectedBlocks =
      id === null
        ? []
        : [...createSignedBlocks(model, id), ...(calls.length > 1 ? [createBlockBetweenCalls(model, id)] : [])];
    const thinkingBlocks = blocks.filter(isThinkingBlock);
    if (expectedBlocks.length > 0 && thinkingBlocks.length === 0)
      return `messages.${index}.content.0.type: Expected \`thinking\` or \`redacted_thinking\`, but found \`${blocks[0]?.type}\`. When \`thinking\` is enabled, a final \`assistant\` message must start with a thinking block.`;
    if (!isDeepStrictEqual(thinkingBlocks, expectedBlocks))
      return `messages.${index}.content.0: Invalid \`signature\` in \`thinking\` block`;
    // Two thinking blocks (t) come first. If there are several calls (c), a third thinking block follows the first call.
    const blockOrder = blocks
      .filter(({ type }) => type !== "text")
      .map((block) => (isThinkingBlock(block) ? "t" : "c"))
      .join("");
    if (expectedBlocks.length > 0 && !/^(?:ttc|ttctc+)$/.test(blockOrder))
      return `messages.${index}: blocks cannot be modified`;
  }
  const lastAssistantMessage = messages.findLast(({ role }) => role === "assistant");
  const lastBlocks = toList(lastAssistantMessage?.content);
  const { type: mode } = (body.thinking ?? {}) as Fields;
  if (
    mode === "enabled" &&
    lastBlocks.some(({ type }) => type === "tool_use") &&
    !(lastBlocks[0] && isThinkingBlock(lastBlocks[0]))
  )
    return "messages: Expected `thinking` or `redacted_thinking`, but found `tool_use`.";
  return null;
}

function findEncryptedError(model: string, body: Fields, getAnswerId: FindAnswerId): string | null {
  const items = toList(body.input);
  const expected = new Map<string, Fields>();
  for (const item of items.filter(({ type }) => type === "function_call")) {
    const id = getAnswerId(item as Call);
    if (id !== null) expected.set(`rs_${id}`, createReasoningItem(model, id));
  }
  const sentItems = items.filter(({ type }) => type === "reasoning");
  for (const item of sentItems)
    if (!isDeepStrictEqual(item, expected.get(String(item.id))))
      return `The encrypted content for item ${item.id} could not be verified.`;
  for (const id of expected.keys())
    if (!sentItems.some((item) => item.id === id))
      return `Item of type 'function_call' was provided without its required 'reasoning' item: '${id}'.`;
  const danglingItem = items.find(
    (item, index) => item.type === "reasoning" && !/message|call$/.test(getItemType(items[index + 1])),
  );
  return danglingItem
    ? `Item '${danglingItem.id}' of type 'reasoning' was provided without its required following item.`
    : null;
}

const getItemType = (item: Fields | undefined): string =>
  String(item?.type ?? (item?.role === "assistant" ? "message" : ""));

function findChatError(
  model: string,
  thinkingFormat: ThinkingFormat,
  messages: Fields[],
  getAnswerId: FindAnswerId,
): string | null {
  for (const message of messages.filter(({ role }) => role === "assistant")) {
    const calls = toList(message.tool_calls) as Call[];
    const id = calls[0] ? getAnswerId(calls[0]) : null;
    const error = {
      plain: () =>
        findPlainError(message.reasoning_content, calls.length > 0, id === null ? null : createThinkingText(model, id)),
      signature: () => findSignatureError(calls, id === null ? null : createExtraContent(model, id)),
      details: () => findDetailsError(message.reasoning_details, model, calls.length > 0 ? id : undefined),
    }[thinkingFormat as "plain" | "signature" | "details"]();
    if (error !== null) return error;
  }
  return null;
}

/** @param id The id of the answer, null if a different model made its calls, or undefined if it has no calls. */
function findDetailsError(sent: unknown, model: string, id: string | null | undefined): string | null {
  const isFromSameModel = String(toList(sent)[0]?.text ?? "").startsWith(`Thought ${model} `);
  if (id === undefined && (sent === undefined || isFromSameModel)) return null;
  return isDeepStrictEqual(sent, id ? createReasoningDetails(model, id) : undefined)
    ? null
    : "reasoning_details: the sequence of reasoning blocks must match the model's output.";
}

function findPlainError(sent: unknown, hasCalls: boolean, expected: string | null): string | null {
  if (!hasCalls) return sent === undefined ? null : "reasoning_content must not be passed outside of a tool loop.";
  if (typeof sent !== "string") return "The `reasoning_content` in the thinking mode must be passed back to the API.";
  return sent === "" || sent === expected ? null : "reasoning_content differs from the model's thinking.";
}

function findSignatureError(calls: Call[], expected: Fields | null): string | null {
  if (calls.length === 0) return null;
  const [firstContent, ...otherContents] = calls.map(({ extra_content }) => extra_content);
  if (otherContents.some((content) => content !== undefined))
    return "Thought signature is not valid: only the first call has one.";
  if (firstContent === undefined)
    return "Function call is missing a thought_signature in functionCall parts. Please refer to https://ai.google.dev/gemini-api/docs/thought-signatures for more details.";
  const placeholder = { google: { thought_signature: "skip_thought_signature_validator" } };
  return isDeepStrictEqual(firstContent, expected ?? placeholder) ? null : "Thought signature is not valid.";
}
