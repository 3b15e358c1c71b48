import { findOpenAiFormatError } from "./answer-format.ts";
import { createReasoningItem } from "./thinking.ts";
import {
  type AnswerContext,
  formatSse,
  getErrorType,
  hasBearer,
  PROVIDER_INTERNAL_TEXT,
  splitArguments,
  type WireFormat,
} from "./wire-format.ts";

const sequenceNumbers = new WeakMap<AnswerContext, number>();

function formatEvent(context: AnswerContext, type: string, data: Record<string, unknown>): string {
  const number = sequenceNumbers.get(context) ?? 0;
  sequenceNumbers.set(context, number + 1);
  return formatSse(type, { type, sequence_number: number, ...data });
}

const createItemId = (context: AnswerContext) => `msg_${context.id}`;

const findTextIndex = ({ script }: AnswerContext): number => (script.thinkingFormat === null ? 0 : 1);

/** Formats the reasoning item. Its encrypted content is included only on request. */
function formatReasoningItem(context: AnswerContext): string {
  const { id, model, script, body } = context;
  if (script.thinkingFormat === null) return "";
  const isRequested = JSON.stringify(body.include ?? []).includes("reasoning.encrypted_content");
  const { encrypted_content, ...baseItem } = createReasoningItem(model, id);
  const item = { ...baseItem, status: "completed", ...(isRequested && { encrypted_content }) };
  return (
    formatEvent(context, "response.output_item.added", {
      output_index: 0,
      item: { ...baseItem, summary: [], encrypted_content: "cut" },
    }) + formatEvent(context, "response.output_item.done", { output_index: 0, item })
  );
}

const createResponse = (context: AnswerContext, extra: Record<string, unknown>) => ({
  id: `resp_${context.id}`,
  object: "response",
  created_at: Math.floor(Date.now() / 1000),
  status: "in_progress",
  background: false,
  error: null,
  incomplete_details: null,
  instructions: null,
  max_output_tokens: null,
  model: context.model,
  output: [],
  parallel_tool_calls: true,
  previous_response_id: null,
  store: false,
  temperature: 1,
  tool_choice: "auto",
  tools: [],
  top_p: 1,
  usage: null,
  metadata: {},
  ...extra,
});

/** OpenAI's Responses API, streamed. */
export const responsesFormat: WireFormat = {
  path: "/v1/responses",
  findRequestError(body) {
    if (!Array.isArray(body.input) || body.input.length === 0) return "Missing required parameter: 'input'.";
    const items = body.input as { type?: string; call_id?: string }[];
    const listCallIds = (type: string) => items.filter((item) => item.type === type).map(({ call_id }) => call_id);
    const outputs = listCallIds("function_call_output");
    const unansweredId = listCallIds("function_call").find((id) => !outputs.includes(id));
    if (unansweredId !== undefined) return `No tool output found for function call ${unansweredId}.`;
    if (outputs.some((id) => !listCallIds("function_call").includes(id)))
      return "No tool call found for function call output.";
    return body.stream === true ? findOpenAiFormatError(body) : "The mock provider only supports streaming.";
  },
  hasKey: hasBearer,
  createErrorBody: (status, message) => ({ error: { message, type: getErrorType(status), param: null, code: null } }),
  formatStart(context) {
    const part = { type: "output_text", annotations: [], logprobs: [], text: "" };
    const item = { id: createItemId(context), type: "message", status: "in_progress", content: [], role: "assistant" };
    return (
      formatEvent(context, "response.created", { response: createResponse(context, {}) }) +
      formatEvent(context, "response.in_progress", { response: createResponse(context, {}) }) +
      formatReasoningItem(context) +
      formatEvent(context, "response.output_item.added", { output_index: findTextIndex(context), item }) +
      formatEvent(context, "response.content_part.added", {
        item_id: item.id,
        output_index: findTextIndex(context),
        content_index: 0,
        part,
      })
    );
  },
  // `formatStart` has already sent the reasoning item, because it comes before the message.
  formatRequiredThinking: () => "",
  formatThinkingDelta: (context, text) =>
    formatEvent(context, "response.reasoning_summary_text.delta", {
      item_id: `rs_${context.id}`,
      output_index: 0,
      summary_index: 0,
      delta: text,
    }),
  formatTextDelta: (context, text) =>
    formatEvent(context, "response.output_text.delta", {
      item_id: createItemId(context),
      output_index: findTextIndex(context),
      content_index: 0,
      delta: text,
      logprobs: [],
    }),
  formatToolCall(context, { index, id, name, arguments: text }, isComplete) {
    const output_index = findTextIndex(context) + index + 1;
    const item = { id: `fc_${id}`, type: "function_call", status: "in_progress", call_id: id, name, arguments: "" };
    const location = { item_id: item.id, output_index };
    const startEvent = formatEvent(context, "response.output_item.added", { output_index, item });
    if (!isComplete) return startEvent;
    return [
      startEvent,
      ...splitArguments(text).map((delta) =>
        formatEvent(context, "response.function_call_arguments.delta", { ...location, delta }),
      ),
      formatEvent(context, "response.function_call_arguments.done", { ...location, name, arguments: text }),
      formatEvent(context, "response.output_item.done", {
        output_index,
        item: { ...item, status: "completed", arguments: text },
      }),
    ].join("");
  },
  formatErrorEvent: (context) =>
    formatEvent(context, "error", {
      code: "server_error",
      message: `The server had an error: ${PROVIDER_INTERNAL_TEXT}`,
      param: null,
    }),
  formatEnd(context, text, tokens) {
    const location = { item_id: createItemId(context), output_index: findTextIndex(context), content_index: 0 };
    const part = { type: "output_text", annotations: [], logprobs: [], text };
    const item = {
      id: createItemId(context),
      type: "message",
      status: "completed",
      content: [part],
      role: "assistant",
    };
    const usage = {
      input_tokens: tokens.input,
      input_tokens_details: { cached_tokens: 0 },
      output_tokens: tokens.output,
      output_tokens_details: { reasoning_tokens: 0 },
      total_tokens: tokens.input + tokens.output,
    };
    const { finishReason } = context.script;
    const type = finishReason === "stop" ? "response.completed" : "response.incomplete";
    const reason = finishReason === "length" ? "max_output_tokens" : "content_filter";
    const result = {
      status: finishReason === "stop" ? "completed" : "incomplete",
      incomplete_details: finishReason === "stop" ? null : { reason },
      output: [item],
      usage: context.script.reportUsage ? usage : null,
    };
    return (
      formatEvent(context, "response.output_text.done", { ...location, text, logprobs: [] }) +
      formatEvent(context, "response.content_part.done", { ...location, part }) +
      formatEvent(context, "response.output_item.done", { output_index: findTextIndex(context), item }) +
      formatEvent(context, type, { response: createResponse(context, result) })
    );
  },
};
