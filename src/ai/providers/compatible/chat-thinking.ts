import type { ChatCompletionMessageParam } from "openai/resources/chat/completions";
import type { ToolCall } from "../../provider.ts";
import {
  createThinking,
  findModelThinking,
  findProviderThinking,
  THINKING_LENGTH_MAX,
  type ThinkingSource,
} from "../../thinking.ts";
import type { Turn } from "../map-conversation.ts";
import { asFields, asList, asNonEmptyString, type Fields } from "../read-fields.ts";
import type { CallWithExtra } from "../tool-calls.ts";

/** Fields that may contain plain-text reasoning. */
const textFields = ["reasoning_content", "reasoning"] as const;

/** Maximum number of `reasoning_details` per step. Models send far fewer. */
const DETAILS_MAX = 10_000;

/**
 * Records the thinking that must be sent back to a Chat Completions server with an answer's calls. Servers send it in these
 * fields:
 *
 * reasoning_content   DeepSeek, Kimi, Qwen and llama.cpp. DeepSeek requires it in turns with calls, even if it is empty
 *                     (api-docs.deepseek.com/guides/thinking_mode). vLLM 0.20 and later call it `reasoning`
 *                     (QwenLM/qwen-code#4285).
 * reasoning_details   OpenRouter. The whole list must be sent back in order
 *                     (openrouter.ai/docs/use-cases/reasoning-tokens).
 * extra_content       Gemini's signature for text or for the first parallel call
 *                     (ai.google.dev/gemini-api/docs/thought-signatures).
 */
export function createThinkingRecord() {
  const details: Fields[] = [];
  let field: (typeof textFields)[number] | null = null;
  let text = "";
  let messageExtra: Fields | null = null;
  let length = 0;

  function addDetail(detail: Fields): void {
    const lastDetail = details.at(-1);
    const isContinuation =
      lastDetail &&
      lastDetail.type === detail.type &&
      lastDetail.index === detail.index &&
      detail.type !== "reasoning.encrypted";
    if (isContinuation) details[details.length - 1] = joinDetails(lastDetail, detail);
    else if (details.length < DETAILS_MAX) details.push(detail);
  }

  return {
    /** Adds a delta or a complete message. */
    add(delta: Fields): void {
      for (const name of textFields) {
        const chunk = delta[name];
        if (typeof chunk !== "string" || (field !== null && field !== name)) continue;
        field = name;
        length += chunk.length;
        if (length <= THINKING_LENGTH_MAX) text += chunk;
      }
      for (const detail of asList(delta.reasoning_details).map(asFields)) {
        length += JSON.stringify(detail).length;
        if (length <= THINKING_LENGTH_MAX) addDetail(detail);
      }
      if (hasSignature(delta.extra_content)) messageExtra = asFields(delta.extra_content);
    },

    /** Returns the thinking to send back to this server with the answer's calls. */
    buildThinking(thinkingSource: ThinkingSource | undefined, calls: readonly CallWithExtra[]) {
      const callExtras = calls.flatMap(({ call, extra }) => (extra === undefined ? [] : [[call.id, extra]]));
      const data = {
        ...(field !== null && details.length === 0 && { field, text }),
        ...(details.length > 0 && { details }),
        ...(messageExtra && { extra: messageExtra }),
        ...(callExtras.length > 0 && { extras: callExtras }),
      };
      const isKept = length <= THINKING_LENGTH_MAX && Object.keys(data).length > 0;
      return createThinking(thinkingSource, isKept ? data : null);
    },
  };
}

/** Joins two chunks of the same detail. `text` and `summary` are concatenated; in other fields, the later value wins. */
function joinDetails(first: Fields, second: Fields): Fields {
  const presentFields = Object.entries(second).filter(([, value]) => value !== null && value !== undefined);
  const joined: Record<string, unknown> = { ...first, ...Object.fromEntries(presentFields) };
  for (const name of ["text", "summary"])
    if (typeof first[name] === "string" && typeof second[name] === "string")
      joined[name] = `${first[name]}${second[name]}`;
  return joined;
}

/** Whether Gemini's `extra_content` contains a signature. Without one, it only marks the text as reasoning. */
const hasSignature = (extra: unknown): boolean =>
  asNonEmptyString(asFields(asFields(extra).google).thought_signature) !== null;

type AssistantTurn = Extract<Turn, { role: "assistant" }>;
type AssistantMessage = Extract<ChatCompletionMessageParam, { role: "assistant" }>;

/** Adds a server's own thinking to a turn. Signed or encrypted thinking is only sent back to the same model. */
export function addThinking(
  message: AssistantMessage,
  turn: AssistantTurn,
  thinkingSource: ThinkingSource,
): AssistantMessage {
  const providerThinking = findProviderThinking(turn.thinking, thinkingSource);
  if (!providerThinking) return message;
  const { details, extra, extras } = findModelThinking(turn.thinking, thinkingSource) ?? {};
  const field = textFields.find((name) => name === providerThinking.field);
  const extrasByCallId = new Map(asList(extras).map((entry) => [asList(entry)[0], asList(entry)[1]]));
  return {
    ...message,
    // Servers reject or ignore this field in turns without calls.
    ...(field && turn.toolCalls.length > 0 && { [field]: String(providerThinking.text ?? "") }),
    ...(asList(details).length > 0 && { reasoning_details: details }),
    ...(extra !== undefined && { extra_content: extra }),
    ...(message.tool_calls && {
      tool_calls: message.tool_calls.map((call) =>
        extrasByCallId.has(call.id) ? { ...call, extra_content: extrasByCallId.get(call.id) } : call,
      ),
    }),
  };
}

/** The signature that Google documents for calls made by a different model. */
const SKIP_SIGNATURE = "skip_thought_signature_validator";

type Message = { role: string; tool_calls?: (ToolCall & { extra_content?: unknown })[] };

/**
 * Returns the body to send after an error about thinking, or null if the error is about something else. DeepSeek and Gemini
 * reject calls without thinking, such as those made by a different model; each needs a different workaround.
 * @param createBodyWithoutThinking returns the body for a server that rejects its own thinking.
 */
export function rewriteAfterThinkingError<Body extends { messages: readonly unknown[] }>(
  body: Body,
  errorText: string,
  createBodyWithoutThinking: () => Body,
): Body | null {
  const messages = body.messages as readonly (Message & Fields)[];
  const messagesWithCalls = messages.filter(({ tool_calls }) => tool_calls?.length);
  const rewriteMessagesWithCalls = (rewriteMessage: (message: Message & Fields) => object) => ({
    ...body,
    messages: messages.map((message) => (message.tool_calls?.length ? rewriteMessage(message) : message)),
  });
  if (/thought_?signature/i.test(errorText) && /missing/i.test(errorText) && messagesWithCalls.length > 0)
    return rewriteMessagesWithCalls(({ tool_calls = [], ...message }) => ({
      ...message,
      tool_calls: tool_calls.map(skipSignature),
    }));
  if (
    /reasoning_content/.test(errorText) &&
    messagesWithCalls.some((message) => message.reasoning_content === undefined)
  )
    return rewriteMessagesWithCalls((message) => ({ reasoning_content: "", ...message }));
  const isAboutThinking = /reasoning|thinking|thought|signature|extra_content/i.test(errorText);
  return isAboutThinking && messages.some(hasThinking) ? createBodyWithoutThinking() : null;
}

/** Adds the skip signature to a call if it is the first of the parallel calls. Other calls don't need a signature. */
const skipSignature = <Call extends { extra_content?: unknown }>(call: Call, index: number): Call =>
  index > 0 || call.extra_content !== undefined
    ? call
    : { ...call, extra_content: { google: { thought_signature: SKIP_SIGNATURE } } };

const hasThinking = (message: Message & Fields): boolean =>
  [...textFields, "reasoning_details", "extra_content"].some((name) => message[name] !== undefined) ||
  (message.tool_calls ?? []).some((call) => call.extra_content !== undefined);
