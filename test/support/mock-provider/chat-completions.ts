import { findOpenAiFormatError } from "./answer-format.ts";
import { createExtraContent, createThinkingText, splitReasoningDetails } from "./thinking.ts";
import {
  type AnswerContext,
  formatSse,
  getErrorType,
  PROVIDER_INTERNAL_TEXT,
  splitArguments,
  type WireFormat,
} from "./wire-format.ts";

const CREATED = 1_760_000_000;

type SentMessage = { role: string; tool_calls?: { id: string }[]; tool_call_id?: string };
type Choice = { delta: Record<string, unknown>; finish_reason?: string };

const formatChunk = ({ id, model }: AnswerContext, choice: Choice | null, usage: unknown = null): string =>
  formatSse(null, {
    id: `chatcmpl-${id}`,
    object: "chat.completion.chunk",
    created: CREATED,
    model,
    choices: choice === null ? [] : [{ index: 0, logprobs: null, finish_reason: null, ...choice }],
    usage,
  });

/** OpenAI's Chat Completions API, streamed. Most other servers implement it too. */
export const chatCompletionsFormat: WireFormat = {
  path: "/v1/chat/completions",
  findRequestError(body) {
    if (!Array.isArray(body.messages) || body.messages.length === 0) return "'messages' is required.";
    const unansweredCallIds = new Set<string>();
    for (const { role, tool_calls, tool_call_id } of body.messages as SentMessage[]) {
      if (role === "tool" && !unansweredCallIds.delete(tool_call_id ?? ""))
        return "messages with role 'tool' must be a response to a preceeding message with 'tool_calls'.";
      if (role !== "tool" && unansweredCallIds.size > 0)
        return "An assistant message with 'tool_calls' must be followed by results.";
      for (const { id } of tool_calls ?? []) unansweredCallIds.add(id);
    }
    return body.stream === true ? findOpenAiFormatError(body) : "The mock provider only supports streaming.";
  },
  // Some servers, such as Ollama and llama.cpp, require no key.
  hasKey: () => true,
  createErrorBody: (status, message) => ({ error: { message, type: getErrorType(status), param: null, code: null } }),
  formatStart: (context) => formatChunk(context, { delta: { role: "assistant", content: "" } }),
  formatThinkingDelta: (context, text) => formatChunk(context, { delta: { reasoning_content: text } }),
  formatRequiredThinking(context) {
    const { id, model, script } = context;
    const formatDelta = (fields: object) => formatChunk(context, { delta: fields as Record<string, unknown> });
    if (script.thinkingFormat === "plain")
      return ["Thought ", createThinkingText(model, id).slice(8)]
        .map((reasoning_content) => formatDelta({ reasoning_content }))
        .join("");
    if (script.thinkingFormat !== "details") return "";
    return splitReasoningDetails(model, id)
      .map((reasoning_details) => formatDelta({ reasoning_details }))
      .join("");
  },
  formatTextDelta: (context, text) => formatChunk(context, { delta: { content: text } }),
  formatToolCall(context, { index, id, name, arguments: text }, isComplete) {
    const extra = context.script.thinkingFormat === "signature" &&
      index === 0 && { extra_content: createExtraContent(context.model, context.id) };
    const startCall = { index, id, type: "function", function: { name, arguments: "" }, ...extra };
    const pieces = isComplete ? splitArguments(text).map((piece) => ({ index, function: { arguments: piece } })) : [];
    return [startCall, ...pieces].map((call) => formatChunk(context, { delta: { tool_calls: [call] } })).join("");
  },
  formatErrorEvent: () =>
    formatSse(null, { error: { message: PROVIDER_INTERNAL_TEXT, type: "server_error", param: null, code: null } }),
  formatEnd(context, _text, { input, output }) {
    const { finishReason, reportUsage, sendDone } = context.script;
    const options = context.body.stream_options as { include_usage?: boolean } | undefined;
    const usage = { prompt_tokens: input, completion_tokens: output, total_tokens: input + output };
    return (
      formatChunk(context, {
        delta: {},
        finish_reason: context.script.toolCalls.length > 0 ? "tool_calls" : finishReason,
      }) +
      (reportUsage && options?.include_usage ? formatChunk(context, null, usage) : "") +
      (sendDone ? formatSse(null, "[DONE]") : "")
    );
  },
};
