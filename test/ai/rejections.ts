/** Rejections of parameters in the formats of known servers. */

export const openAi = (message: string, param: string | null = null, code: string | null = null) => ({
  error: { message, type: "invalid_request_error", param, code },
});
export const pydantic = (name: string, ...place: (string | number)[]) => ({
  type: "extra_forbidden",
  loc: ["body", name, ...place],
  msg: "Extra inputs are not permitted",
  input: { temperature: "it stands in what was sent" },
});

/** A model that rejects a parameter, and its message. */
type Rejection = { name: string; model: string; parameter: string; status?: number; rejection: unknown };
export const unsupported = (name: string) =>
  openAi(`Unsupported parameter: '${name}' is not supported with this model.`, name, "unsupported_parameter");

export const rejections: Rejection[] = [
  { name: "OpenAI", model: "openai/own", parameter: "temperature", rejection: unsupported("temperature") },
  { name: "OpenAI", model: "openai/own", parameter: "top_p", rejection: unsupported("top_p") },
  { name: "OpenAI", model: "openai/own", parameter: "store", rejection: unsupported("store") },
  { name: "OpenAI", model: "openai/own", parameter: "strict", rejection: unsupported("tools[0].strict") },
  {
    name: "OpenAI",
    model: "openai/own",
    parameter: "parallel_tool_calls",
    rejection: openAi("Unknown parameter: 'parallel_tool_calls'.", "parallel_tool_calls", "unknown_parameter"),
  },
  {
    name: "OpenAI's message for a value",
    model: "compatible/own",
    parameter: "temperature",
    rejection: openAi(
      "Unsupported value: 'temperature' does not support 0.2 with this model. Only the default (1) value is supported.",
      "temperature",
      "unsupported_value",
    ),
  },
  {
    name: "Azure",
    model: "compatible/own",
    parameter: "stream_options",
    rejection: openAi("Unrecognized request argument supplied: stream_options"),
  },
  {
    name: "Azure",
    model: "compatible/own",
    parameter: "stop",
    rejection: openAi("Unrecognized request argument supplied: stop"),
  },
  {
    name: "Anthropic",
    model: "anthropic/own",
    parameter: "temperature",
    rejection: {
      type: "error",
      error: { type: "invalid_request_error", message: "`temperature` is deprecated for this model." },
      request_id: "req_1",
    },
  },
  {
    name: "Anthropic",
    model: "anthropic/own",
    parameter: "stop_sequences",
    rejection: {
      type: "error",
      error: { type: "invalid_request_error", message: "stop_sequences: Extra inputs are not permitted" },
    },
  },
  {
    name: "Anthropic",
    model: "anthropic/own",
    parameter: "disable_parallel_tool_use",
    rejection: {
      type: "error",
      error: {
        type: "invalid_request_error",
        message: "tool_choice.auto.disable_parallel_tool_use: Extra inputs are not permitted",
      },
    },
  },
  {
    name: "FastAPI",
    model: "compatible/own",
    parameter: "stream_options",
    status: 422,
    rejection: { detail: [pydantic("stream_options", "include_usage")] },
  },
  {
    name: "FastAPI",
    model: "compatible/own",
    parameter: "strict",
    status: 422,
    rejection: { detail: [pydantic("tools", 0, "function", "strict")] },
  },
  {
    name: "Mistral",
    model: "compatible/own",
    parameter: "parallel_tool_calls",
    status: 422,
    rejection: {
      object: "error",
      message: { detail: [pydantic("parallel_tool_calls")] },
      type: "invalid_request_error",
    },
  },
  {
    name: "vLLM",
    model: "compatible/own",
    parameter: "stop",
    rejection: {
      object: "error",
      message:
        "[{'type': 'extra_forbidden', 'loc': ('body', 'stop'), 'msg': 'Extra inputs are not permitted', 'input': {'temperature': 1}}]",
      type: "BadRequestError",
      param: null,
      code: 400,
    },
  },
  {
    name: "pydantic, as text",
    model: "compatible/own",
    parameter: "stop",
    rejection: {
      error: "1 validation error for ChatRequest\nstop\n  Extra inputs are not permitted [type=extra_forbidden]",
    },
  },
  {
    name: "serde",
    model: "compatible/own",
    parameter: "parallel_tool_calls",
    status: 422,
    rejection:
      "Failed to deserialize: unknown field `parallel_tool_calls`, expected one of `model`, `temperature`, `top_p`",
  },
  {
    name: "serde, within a list",
    model: "compatible/own",
    parameter: "stop",
    rejection: {
      message: "unknown field `stop`, expected one of `model`, `messages`, `temperature` at line 1 column 9",
    },
  },
  {
    name: "Go",
    model: "compatible/own",
    parameter: "stream_options",
    rejection: { error: { message: 'json: unknown field "stream_options"' } },
  },
  {
    name: "Gemini",
    model: "compatible/own",
    parameter: "parallel_tool_calls",
    rejection: [
      {
        error: {
          code: 400,
          message: 'Invalid JSON payload received. Unknown name "parallel_tool_calls": Cannot find field.',
          status: "INVALID_ARGUMENT",
        },
      },
    ],
  },
  {
    name: "LiteLLM",
    model: "compatible/own",
    parameter: "parallel_tool_calls",
    rejection: openAi(
      "litellm.UnsupportedParamsError: groq does not support parameters: ['parallel_tool_calls'], for model=own.",
      "None",
    ),
  },
  {
    name: "Azure, in another spelling",
    model: "compatible/own",
    parameter: "max_tokens",
    rejection: openAi("this model is not supported MaxTokens, please use MaxCompletionTokens"),
  },
  {
    name: "a Java server",
    model: "compatible/own",
    parameter: "parallel_tool_calls",
    rejection: { message: "parallelToolCalls is not supported" },
  },
  {
    name: "Moonshot",
    model: "compatible/own",
    parameter: "temperature",
    rejection: openAi("invalid temperature: only 1 is allowed for this model"),
  },
];
