import { findOpenAiFormatMistake } from "./answer-format.ts";
import { reasoningItem } from "./thoughts.ts";
import {
  type AnswerContext,
  errorType,
  FOREIGN_TEXT,
  hasBearer,
  splitArguments,
  sse,
  type WireFormat,
} from "./wire-format.ts";

const sequence = new WeakMap<AnswerContext, number>();

function event(context: AnswerContext, type: string, data: Record<string, unknown>): string {
  const number = sequence.get(context) ?? 0;
  sequence.set(context, number + 1);
  return sse(type, { type, sequence_number: number, ...data });
}

const itemId = (context: AnswerContext) => `msg_${context.id}`;

const textIndex = ({ script }: AnswerContext): number => (script.thought === null ? 0 : 1);

/** The reasoning item; its encrypted content is only included on request. */
function thoughtItem(context: AnswerContext): string {
  const { id, model, script, body } = context;
  if (script.thought === null) return "";
  const isAsked = JSON.stringify(body.include ?? []).includes("reasoning.encrypted_content");
  const { encrypted_content, ...bare } = reasoningItem(model, id);
  const item = { ...bare, status: "completed", ...(isAsked && { encrypted_content }) };
  return (
    event(context, "response.output_item.added", {
      output_index: 0,
      item: { ...bare, summary: [], encrypted_content: "cut" },
    }) + event(context, "response.output_item.done", { output_index: 0, item })
  );
}

const response = (context: AnswerContext, extra: Record<string, unknown>) => ({
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
  findMistake(body) {
    if (!Array.isArray(body.input) || body.input.length === 0) return "Missing required parameter: 'input'.";
    const items = body.input as { type?: string; call_id?: string }[];
    const ids = (type: string) => items.filter((item) => item.type === type).map(({ call_id }) => call_id);
    const outputs = ids("function_call_output");
    const open = ids("function_call").find((id) => !outputs.includes(id));
    if (open !== undefined) return `No tool output found for function call ${open}.`;
    if (outputs.some((id) => !ids("function_call").includes(id))) return "No tool call found for function call output.";
    return body.stream === true ? findOpenAiFormatMistake(body) : "The mock provider only supports streaming.";
  },
  hasKey: hasBearer,
  errorBody: (status, message) => ({ error: { message, type: errorType(status), param: null, code: null } }),
  open(context) {
    const part = { type: "output_text", annotations: [], logprobs: [], text: "" };
    const item = { id: itemId(context), type: "message", status: "in_progress", content: [], role: "assistant" };
    return (
      event(context, "response.created", { response: response(context, {}) }) +
      event(context, "response.in_progress", { response: response(context, {}) }) +
      thoughtItem(context) +
      event(context, "response.output_item.added", { output_index: textIndex(context), item }) +
      event(context, "response.content_part.added", {
        item_id: item.id,
        output_index: textIndex(context),
        content_index: 0,
        part,
      })
    );
  },
  // It comes before the message, which `open` begins.
  thought: () => "",
  thinking: (context, text) =>
    event(context, "response.reasoning_summary_text.delta", {
      item_id: `rs_${context.id}`,
      output_index: 0,
      summary_index: 0,
      delta: text,
    }),
  delta: (context, text) =>
    event(context, "response.output_text.delta", {
      item_id: itemId(context),
      output_index: textIndex(context),
      content_index: 0,
      delta: text,
      logprobs: [],
    }),
  toolCall(context, { index, id, name, arguments: text }, isWhole) {
    const output_index = textIndex(context) + index + 1;
    const item = { id: `fc_${id}`, type: "function_call", status: "in_progress", call_id: id, name, arguments: "" };
    const place = { item_id: item.id, output_index };
    const start = event(context, "response.output_item.added", { output_index, item });
    if (!isWhole) return start;
    return [
      start,
      ...splitArguments(text).map((delta) =>
        event(context, "response.function_call_arguments.delta", { ...place, delta }),
      ),
      event(context, "response.function_call_arguments.done", { ...place, name, arguments: text }),
      event(context, "response.output_item.done", {
        output_index,
        item: { ...item, status: "completed", arguments: text },
      }),
    ].join("");
  },
  errorEvent: (context) =>
    event(context, "error", { code: "server_error", message: `The server had an error: ${FOREIGN_TEXT}`, param: null }),
  close(context, text, tokens) {
    const place = { item_id: itemId(context), output_index: textIndex(context), content_index: 0 };
    const part = { type: "output_text", annotations: [], logprobs: [], text };
    const item = { id: itemId(context), type: "message", status: "completed", content: [part], role: "assistant" };
    const usage = {
      input_tokens: tokens.input,
      input_tokens_details: { cached_tokens: 0 },
      output_tokens: tokens.output,
      output_tokens_details: { reasoning_tokens: 0 },
      total_tokens: tokens.input + tokens.output,
    };
    const { finish } = context.script;
    const type = finish === "stop" ? "response.completed" : "response.incomplete";
    const reason = finish === "length" ? "max_output_tokens" : "content_filter";
    const end = {
      status: finish === "stop" ? "completed" : "incomplete",
      incomplete_details: finish === "stop" ? null : { reason },
      output: [item],
      usage: context.script.usage ? usage : null,
    };
    return (
      event(context, "response.output_text.done", { ...place, text, logprobs: [] }) +
      event(context, "response.content_part.done", { ...place, part }) +
      event(context, "response.output_item.done", { output_index: textIndex(context), item }) +
      event(context, type, { response: response(context, end) })
    );
  },
};
