import { findOpenAiFormatMistake } from "./answer-format.ts";
import { detailPieces, extraOf, thoughtOf } from "./thoughts.ts";
import { type AnswerContext, errorType, FOREIGN_TEXT, splitArguments, sse, type WireFormat } from "./wire-format.ts";

const CREATED = 1_760_000_000;

type Sent = { role: string; tool_calls?: { id: string }[]; tool_call_id?: string };
type Choice = { delta: Record<string, unknown>; finish_reason?: string };

const chunk = ({ id, model }: AnswerContext, choice: Choice | null, usage: unknown = null): string =>
  sse(null, {
    id: `chatcmpl-${id}`,
    object: "chat.completion.chunk",
    created: CREATED,
    model,
    choices: choice === null ? [] : [{ index: 0, logprobs: null, finish_reason: null, ...choice }],
    usage,
  });

/** OpenAI's Chat Completions, streamed, as most other servers implement them too. */
export const chatCompletionsFormat: WireFormat = {
  path: "/v1/chat/completions",
  findMistake(body) {
    if (!Array.isArray(body.messages) || body.messages.length === 0) return "'messages' is required.";
    const awaited = new Set<string>();
    for (const { role, tool_calls, tool_call_id } of body.messages as Sent[]) {
      if (role === "tool" && !awaited.delete(tool_call_id ?? ""))
        return "messages with role 'tool' must be a response to a preceeding message with 'tool_calls'.";
      if (role !== "tool" && awaited.size > 0)
        return "An assistant message with 'tool_calls' must be followed by results.";
      for (const { id } of tool_calls ?? []) awaited.add(id);
    }
    return body.stream === true ? findOpenAiFormatMistake(body) : "The mock provider only supports streaming.";
  },
  // Like Ollama and llama.cpp, which require no key.
  hasKey: () => true,
  errorBody: (status, message) => ({ error: { message, type: errorType(status), param: null, code: null } }),
  open: (context) => chunk(context, { delta: { role: "assistant", content: "" } }),
  thinking: (context, text) => chunk(context, { delta: { reasoning_content: text } }),
  thought(context) {
    const { id, model, script } = context;
    const write = (delta: object) => chunk(context, { delta: delta as Record<string, unknown> });
    if (script.thought === "plain")
      return ["Thought ", thoughtOf(model, id).slice(8)]
        .map((reasoning_content) => write({ reasoning_content }))
        .join("");
    if (script.thought !== "details") return "";
    return detailPieces(model, id)
      .map((reasoning_details) => write({ reasoning_details }))
      .join("");
  },
  delta: (context, text) => chunk(context, { delta: { content: text } }),
  toolCall(context, { index, id, name, arguments: text }, isWhole) {
    const extra = context.script.thought === "signature" &&
      index === 0 && { extra_content: extraOf(context.model, context.id) };
    const start = { index, id, type: "function", function: { name, arguments: "" }, ...extra };
    const pieces = isWhole ? splitArguments(text).map((piece) => ({ index, function: { arguments: piece } })) : [];
    return [start, ...pieces].map((call) => chunk(context, { delta: { tool_calls: [call] } })).join("");
  },
  errorEvent: () => sse(null, { error: { message: FOREIGN_TEXT, type: "server_error", param: null, code: null } }),
  close(context, _text, { input, output }) {
    const { finish, usage, done } = context.script;
    const options = context.body.stream_options as { include_usage?: boolean } | undefined;
    const counted = { prompt_tokens: input, completion_tokens: output, total_tokens: input + output };
    return (
      chunk(context, { delta: {}, finish_reason: context.script.toolCalls.length > 0 ? "tool_calls" : finish }) +
      (usage && options?.include_usage ? chunk(context, null, counted) : "") +
      (done ? sse(null, "[DONE]") : "")
    );
  },
};
