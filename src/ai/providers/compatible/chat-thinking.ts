import type { ChatCompletionMessageParam } from "openai/resources/chat/completions";
import type { ToolCall } from "../../provider.ts";
import {
  createThinking,
  findModelThinking,
  findOwnThinking,
  THINKING_LENGTH_MAX,
  type ThinkingSource,
} from "../../thinking.ts";
import type { Turn } from "../map-conversation.ts";
import { type Fields, readFields, readList, readText } from "../read-fields.ts";
import type { CallWithExtra } from "../tool-calls.ts";

/** Field names for plain-text reasoning. */
const textFields = ["reasoning_content", "reasoning"] as const;

/** Maximum entries of `reasoning_details` per step; more than any model sends. */
const DETAILS_MAX = 10_000;

/**
 * Collects the thinking that a Chat Completions server needs back with the calls of an answer, by field:
 *
 * reasoning_content   DeepSeek, Kimi, Qwen, llama.cpp; DeepSeek rejects a turn with calls without it, even if it is empty
 *                     (api-docs.deepseek.com/guides/thinking_mode). vLLM calls it `reasoning` from 0.20 on
 *                     (QwenLM/qwen-code#4285).
 * reasoning_details   OpenRouter: the whole sequence, in order (openrouter.ai/docs/use-cases/reasoning-tokens).
 * extra_content       Gemini's signatures of a call or a text; only the first of parallel calls has one
 *                     (ai.google.dev/gemini-api/docs/thought-signatures).
 */
export function createChatRecord() {
  const details: Fields[] = [];
  let field: (typeof textFields)[number] | null = null;
  let text = "";
  let extra: Fields | null = null;
  let length = 0;

  function addDetail(detail: Fields): void {
    const last = details.at(-1);
    const isMore =
      last && last.type === detail.type && last.index === detail.index && detail.type !== "reasoning.encrypted";
    if (isMore) details[details.length - 1] = join(last, detail);
    else if (details.length < DETAILS_MAX) details.push(detail);
  }

  return {
    /** Reads a delta or a whole message. */
    add(delta: Fields): void {
      for (const name of textFields) {
        const piece = delta[name];
        if (typeof piece !== "string" || (field !== null && field !== name)) continue;
        field = name;
        length += piece.length;
        if (length <= THINKING_LENGTH_MAX) text += piece;
      }
      for (const detail of readList(delta.reasoning_details).map(readFields)) {
        length += JSON.stringify(detail).length;
        if (length <= THINKING_LENGTH_MAX) addDetail(detail);
      }
      if (hasSignature(delta.extra_content)) extra = readFields(delta.extra_content);
    },

    /** Returns the thinking to send back to this server with the answer, with its calls by id. */
    read(thinker: ThinkingSource | undefined, calls: readonly CallWithExtra[]) {
      const extras = calls.flatMap(({ call, extra: kept }) => (kept === undefined ? [] : [[call.id, kept]]));
      const data = {
        ...(field !== null && details.length === 0 && { field, text }),
        ...(details.length > 0 && { details }),
        ...(extra && { extra }),
        ...(extras.length > 0 && { extras }),
      };
      const isKept = length <= THINKING_LENGTH_MAX && Object.keys(data).length > 0;
      return createThinking(thinker, isKept ? data : null);
    },
  };
}

/** Joins two pieces of the same detail. For non-text fields, the later value wins. */
function join(first: Fields, next: Fields): Fields {
  const stated = Object.entries(next).filter(([, value]) => value !== null && value !== undefined);
  const joined: Record<string, unknown> = { ...first, ...Object.fromEntries(stated) };
  for (const name of ["text", "summary"])
    if (typeof first[name] === "string" && typeof next[name] === "string") joined[name] = `${first[name]}${next[name]}`;
  return joined;
}

/** Gemini's other entries only mark a text as reasoning. */
const hasSignature = (extra: unknown): boolean =>
  readText(readFields(readFields(extra).google).thought_signature) !== null;

type AssistantTurn = Extract<Turn, { role: "assistant" }>;
type AssistantMessage = Extract<ChatCompletionMessageParam, { role: "assistant" }>;

/** Adds a server's own thinking to a turn. Signed or encrypted parts go back only to the same model. */
export function addThinking(message: AssistantMessage, turn: AssistantTurn, thinker: ThinkingSource): AssistantMessage {
  const own = findOwnThinking(turn.thinking, thinker);
  if (!own) return message;
  const { details, extra, extras } = findModelThinking(turn.thinking, thinker) ?? {};
  const field = textFields.find((name) => name === own.field);
  const extraOf = new Map(readList(extras).map((entry) => [readList(entry)[0], readList(entry)[1]]));
  return {
    ...message,
    // Outside of a tool loop it is rejected or ignored.
    ...(field && turn.toolCalls.length > 0 && { [field]: String(own.text ?? "") }),
    ...(readList(details).length > 0 && { reasoning_details: details }),
    ...(extra !== undefined && { extra_content: extra }),
    ...(message.tool_calls && {
      tool_calls: message.tool_calls.map((call) =>
        extraOf.has(call.id) ? { ...call, extra_content: extraOf.get(call.id) } : call,
      ),
    }),
  };
}

/** The value that Google documents for calls made by another model. */
const SKIPPED_SIGNATURE = "skip_thought_signature_validator";

type Message = { role: string; tool_calls?: (ToolCall & { extra_content?: unknown })[] };

/**
 * Returns what to send after an error about thinking: calls of another model have none, which DeepSeek and Gemini reject,
 * each with its own workaround. Null: the error is about something else.
 * @param forget the request without any thinking, for a server that rejects its own.
 */
export function rewriteAfterRefusal<Body extends { messages: readonly unknown[] }>(
  body: Body,
  refusal: string,
  forget: () => Body,
): Body | null {
  const messages = body.messages as readonly (Message & Fields)[];
  const called = messages.filter(({ tool_calls }) => tool_calls?.length);
  const change = (next: (message: Message & Fields) => object) => ({
    ...body,
    messages: messages.map((message) => (message.tool_calls?.length ? next(message) : message)),
  });
  if (/thought_?signature/i.test(refusal) && /missing/i.test(refusal) && called.length > 0)
    return change(({ tool_calls = [], ...message }) => ({ ...message, tool_calls: tool_calls.map(skipSignature) }));
  if (/reasoning_content/.test(refusal) && called.some((message) => message.reasoning_content === undefined))
    return change((message) => ({ reasoning_content: "", ...message }));
  const isAboutThinking = /reasoning|thinking|thought|signature|extra_content/i.test(refusal);
  return isAboutThinking && messages.some(hasThinking) ? forget() : null;
}

/** Only the first of parallel calls needs it. */
const skipSignature = <Call extends { extra_content?: unknown }>(call: Call, index: number): Call =>
  index > 0 || call.extra_content !== undefined
    ? call
    : { ...call, extra_content: { google: { thought_signature: SKIPPED_SIGNATURE } } };

const hasThinking = (message: Message & Fields): boolean =>
  [...textFields, "reasoning_details", "extra_content"].some((name) => message[name] !== undefined) ||
  (message.tool_calls ?? []).some((call) => call.extra_content !== undefined);
