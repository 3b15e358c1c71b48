/** Creates an error in OpenAI's format. */
export const createOpenAiError = (message: string, param: string | null = null, code: string | null = null) => ({
  error: { message, type: "invalid_request_error", param, code },
});
/** Creates an error in pydantic's format. */
export const createPydanticError = (name: string, ...path: (string | number)[]) => ({
  type: "extra_forbidden",
  loc: ["body", name, ...path],
  msg: "Extra inputs are not permitted",
  input: { temperature: "part of the rejected input" },
});

/** Creates OpenAI's error for a parameter that the model doesn't support. */
export const createUnsupportedError = (name: string) =>
  createOpenAiError(
    `Unsupported parameter: '${name}' is not supported with this model.`,
    name,
    "unsupported_parameter",
  );

/** A parameter that a model rejects, and the server's response. `name` identifies the server. */
type Rejection = { name: string; model: string; parameter: string; status?: number; rejection: unknown };

export const rejections: Rejection[] = [
  { name: "OpenAI", model: "openai/own", parameter: "temperature", rejection: createUnsupportedError("temperature") },
  { name: "OpenAI", model: "openai/own", parameter: "top_p", rejection: createUnsupportedError("top_p") },
  { name: "OpenAI", model: "openai/own", parameter: "store", rejection: createUnsupportedError("store") },
  { name: "OpenAI", model: "openai/own", parameter: "strict", rejection: createUnsupportedError("tools[0].strict") },
  {
    name: "OpenAI",
    model: "openai/own",
    parameter: "parallel_tool_calls",
    rejection: createOpenAiError(
      "Unknown parameter: 'parallel_tool_calls'.",
      "parallel_tool_calls",
      "unknown_parameter",
    ),
  },
  {
    name: "OpenAI's message for a value",
    model: "compatible/own",
    parameter: "temperature",
    rejection: createOpenAiError(
      "Unsupported value: 'temperature' does not support 0.2 with this model. Only the default (1) value is supported.",
      "temperature",
      "unsupported_value",
    ),
  },
  {
    name: "Azure",
    model: "compatible/own",
    parameter: "stream_options",
    rejection: createOpenAiError("Unrecognized request argument supplied: stream_options"),
  },
  {
    name: "Azure",
    model: "compatible/own",
    parameter: "stop",
    rejection: createOpenAiError("Unrecognized request argument supplied: stop"),
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
    rejection: { detail: [createPydanticError("stream_options", "include_usage")] },
  },
  {
    name: "FastAPI",
    model: "compatible/own",
    parameter: "strict",
    status: 422,
    rejection: { detail: [createPydanticError("tools", 0, "function", "strict")] },
  },
  {
    name: "Mistral",
    model: "compatible/own",
    parameter: "parallel_tool_calls",
    status: 422,
    rejection: {
      object: "error",
      message: { detail: [createPydanticError("parallel_tool_calls")] },
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
    name: "pydantic, as a string",
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
    name: "serde, in a JSON object",
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
    rejection: createOpenAiError(
      "litellm.UnsupportedParamsError: groq does not support parameters: ['parallel_tool_calls'], for model=own.",
      "None",
    ),
  },
  {
    name: "Azure, in a different spelling",
    model: "compatible/own",
    parameter: "max_tokens",
    rejection: createOpenAiError("this model is not supported MaxTokens, please use MaxCompletionTokens"),
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
    rejection: createOpenAiError("invalid temperature: only 1 is allowed for this model"),
  },
];
