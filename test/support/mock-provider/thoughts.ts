import { isDeepStrictEqual } from "node:util";
import type { AnswerContext } from "./wire-format.ts";

/**
 * The format in which a scripted model requires its thinking back. Like the real model, it refuses a request without
 * it, or with that of another model:
 * signed      Anthropic: `thinking` and `redacted_thinking` blocks before the text, and one between two calls
 * encrypted   OpenAI's Responses: reasoning items with `encrypted_content`
 * plain       DeepSeek: `reasoning_content` with each turn that has calls, and with no other
 * signature   Gemini's compatible endpoint: `extra_content` of the first call
 * details     OpenRouter: `reasoning_details`, in pieces
 */
export type ThinkingFormat = "signed" | "encrypted" | "plain" | "signature" | "details";

type Fields = Record<string, unknown>;
type Call = { id?: string; call_id?: string; extra_content?: unknown };

const list = (value: unknown): Fields[] => (Array.isArray(value) ? (value as Fields[]) : []);

/** The text of a model's thinking in one answer. */
export const thoughtOf = (model: string, id: string) => `Thought ${model} ${id}. `;
const signatureOf = (model: string, id: string) => `signed ${model} ${id}`;

export const signedBlocks = (model: string, id: string): Fields[] => [
  { type: "thinking", thinking: thoughtOf(model, id), signature: signatureOf(model, id) },
  { type: "redacted_thinking", data: `redacted ${model} ${id}` },
];
/** The block between its first and its second call. */
export const signedBetween = (model: string, id: string): Fields => ({
  type: "thinking",
  thinking: "",
  signature: `between ${signatureOf(model, id)}`,
});
export const reasoningItem = (model: string, id: string): Fields => ({
  type: "reasoning",
  id: `rs_${id}`,
  summary: [{ type: "summary_text", text: thoughtOf(model, id) }],
  encrypted_content: `encrypted ${model} ${id}`,
});
export const detailsOf = (model: string, id: string): Fields[] => [
  {
    type: "reasoning.text",
    text: thoughtOf(model, id),
    format: "anthropic-claude-v1",
    index: 0,
    signature: signatureOf(model, id),
  },
  {
    type: "reasoning.encrypted",
    data: `encrypted ${model} ${id}`,
    id: `rs_${id}`,
    format: "openai-responses-v1",
    index: 1,
  },
];
export const extraOf = (model: string, id: string): Fields => ({
  google: { thought_signature: signatureOf(model, id) },
});

/** The pieces in which OpenRouter streams its details. */
export function detailPieces(model: string, id: string): Fields[][] {
  const [text, encrypted] = detailsOf(model, id) as [Fields, Fields];
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

/** The answer in which this model made a call, by the call's id; null for a call of another model. */
const findAnswer = (given: ReadonlyMap<string, string>, model: string, { id, call_id }: Call): string | null => {
  const callId = call_id ?? id ?? "";
  return given.get(callId) === model ? (/^call_(\d+)_/.exec(callId)?.[1] ?? null) : null;
};

/** Why the real model would return 400, or null. @param given the calls so far, with their models. */
export function findThoughtMistake(
  { model, script: { thought }, body }: AnswerContext,
  given: ReadonlyMap<string, string>,
): string | null {
  const answerOf = (call: Call) => findAnswer(given, model, call);
  switch (thought) {
    case "signed":
      return findSignedMistake(model, body, answerOf);
    case "encrypted":
      return findEncryptedMistake(model, body, answerOf);
    case "plain":
    case "signature":
    case "details":
      return findChatMistake(model, thought, list(body.messages), answerOf);
    default:
      return null;
  }
}

type AnswerOf = (call: Call) => string | null;

function findSignedMistake(model: string, body: Fields, answerOf: AnswerOf): string | null {
  const messages = list(body.messages);
  const isThought = ({ type }: Fields) => type === "thinking" || type === "redacted_thinking";
  for (const [index, message] of messages.entries()) {
    const blocks = list(message.content);
    const calls = blocks.filter(({ type }) => type === "tool_use");
    const id = calls[0] ? answerOf(calls[0] as Call) : null;
    const awaited =
      id === null ? [] : [...signedBlocks(model, id), ...(calls.length > 1 ? [signedBetween(model, id)] : [])];
    const thought = blocks.filter(isThought);
    if (awaited.length > 0 && thought.length === 0)
      return `messages.${index}.content.0.type: Expected \`thinking\` or \`redacted_thinking\`, but found \`${blocks[0]?.type}\`. When \`thinking\` is enabled, a final \`assistant\` message must start with a thinking block.`;
    if (!isDeepStrictEqual(thought, awaited))
      return `messages.${index}.content.0: Invalid \`signature\` in \`thinking\` block`;
    // The first two begin the turn, the third is between the calls.
    const order = blocks
      .filter(({ type }) => type !== "text")
      .map((block) => (isThought(block) ? "t" : "c"))
      .join("");
    if (awaited.length > 0 && !/^(?:ttc|ttctc+)$/.test(order)) return `messages.${index}: blocks cannot be modified`;
  }
  const newest = messages.findLast(({ role }) => role === "assistant");
  const { type: mode } = (body.thinking ?? {}) as Fields;
  const first = list(newest?.content)[0];
  if (
    mode === "enabled" &&
    list(newest?.content).some(({ type }) => type === "tool_use") &&
    !(first && isThought(first))
  )
    return "messages: Expected `thinking` or `redacted_thinking`, but found `tool_use`.";
  return null;
}

function findEncryptedMistake(model: string, body: Fields, answerOf: AnswerOf): string | null {
  const items = list(body.input);
  const awaited = new Map<string, Fields>();
  for (const item of items.filter(({ type }) => type === "function_call")) {
    const id = answerOf(item as Call);
    if (id !== null) awaited.set(`rs_${id}`, reasoningItem(model, id));
  }
  const sent = items.filter(({ type }) => type === "reasoning");
  for (const item of sent)
    if (!isDeepStrictEqual(item, awaited.get(String(item.id))))
      return `The encrypted content for item ${item.id} could not be verified.`;
  for (const id of awaited.keys())
    if (!sent.some((item) => item.id === id))
      return `Item of type 'function_call' was provided without its required 'reasoning' item: '${id}'.`;
  const dangling = items.find(
    (item, index) => item.type === "reasoning" && !/message|call$/.test(typeOf(items[index + 1])),
  );
  return dangling
    ? `Item '${dangling.id}' of type 'reasoning' was provided without its required following item.`
    : null;
}

const typeOf = (item: Fields | undefined): string =>
  String(item?.type ?? (item?.role === "assistant" ? "message" : ""));

function findChatMistake(
  model: string,
  thought: ThinkingFormat,
  messages: Fields[],
  answerOf: AnswerOf,
): string | null {
  for (const message of messages.filter(({ role }) => role === "assistant")) {
    const calls = list(message.tool_calls) as Call[];
    const id = calls[0] ? answerOf(calls[0]) : null;
    const mistake = {
      plain: () =>
        findPlainMistake(message.reasoning_content, calls.length > 0, id === null ? null : thoughtOf(model, id)),
      signature: () => findSignatureMistake(calls, id === null ? null : extraOf(model, id)),
      details: () => findDetailsMistake(message.reasoning_details, model, calls.length > 0 ? id : undefined),
    }[thought as "plain" | "signature" | "details"]();
    if (mistake !== null) return mistake;
  }
  return null;
}

/** @param id null: its calls are those of another model; undefined: it has none. */
function findDetailsMistake(sent: unknown, model: string, id: string | null | undefined): string | null {
  const isOwn = String(list(sent)[0]?.text ?? "").startsWith(`Thought ${model} `);
  if (id === undefined && (sent === undefined || isOwn)) return null;
  return isDeepStrictEqual(sent, id ? detailsOf(model, id) : undefined)
    ? null
    : "reasoning_details: the sequence of reasoning blocks must match the model's output.";
}

function findPlainMistake(sent: unknown, hasCalls: boolean, awaited: string | null): string | null {
  if (!hasCalls) return sent === undefined ? null : "reasoning_content must not be passed outside of a tool loop.";
  if (typeof sent !== "string") return "The `reasoning_content` in the thinking mode must be passed back to the API.";
  return sent === "" || sent === awaited ? null : "reasoning_content is not what the model has thought.";
}

function findSignatureMistake(calls: Call[], awaited: Fields | null): string | null {
  if (calls.length === 0) return null;
  const [first, ...others] = calls.map(({ extra_content }) => extra_content);
  if (others.some((extra) => extra !== undefined))
    return "Thought signature is not valid: only the first call has one.";
  if (first === undefined)
    return "Function call is missing a thought_signature in functionCall parts. Please refer to https://ai.google.dev/gemini-api/docs/thought-signatures for more details.";
  const skipped = { google: { thought_signature: "skip_thought_signature_validator" } };
  return isDeepStrictEqual(first, awaited ?? skipped) ? null : "Thought signature is not valid.";
}
