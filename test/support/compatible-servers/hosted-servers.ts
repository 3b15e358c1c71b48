import {
  createChoice,
  DONE,
  type Failure,
  formatChunk,
  formatEvent,
  formatTextChunks,
  formatUsage,
  type ServerProfile,
} from "./server-profile.ts";

const bearer = { field: "authorization", scheme: "Bearer " };

const createFailure = (status: number, error: unknown): Failure => ({ status, body: { error } });

/**
 * The stream has comments until a provider has capacity (openai/openai-go#227). An error after the headers is a chunk
 * with both `error` and a finished choice (damianvtran/local-operator#223). Error codes are numbers.
 */
const openRouter: ServerProfile = {
  recipe: { heading: "OpenRouter" },
  path: "/api/v1/chat/completions",
  credential: bearer,
  wrongKey: createFailure(401, { message: "No auth credentials found", code: 401 }),
  wrongPath: { status: 404, body: "<!DOCTYPE html><title>Not Found</title>" },
  unknownModel: createFailure(400, { message: "x is not a valid model ID", code: 400 }),
  tokenCount: { input: 14, output: 9, cached: 4, reasoning: 2 },
  streamAnswer: (model, pieces) => [
    ": OPENROUTER PROCESSING\n\n",
    ": OPENROUTER PROCESSING\n\n",
    ...pieces.map((content) =>
      formatChunk(
        model,
        [createChoice({ role: "assistant", content }, null, { native_finish_reason: null, logprobs: null })],
        {
          provider: "Anthropic",
        },
      ),
    ),
    formatChunk(model, [
      createChoice({ role: "assistant", content: "" }, "stop", { native_finish_reason: "end_turn" }),
    ]),
    formatChunk(model, [createChoice({ role: "assistant", content: "" }, null, { native_finish_reason: null })], {
      usage: {
        ...formatUsage(openRouter.tokenCount),
        cost: 0.000_19,
        prompt_tokens_details: { cached_tokens: 4 },
        completion_tokens_details: { reasoning_tokens: 2 },
      },
    }),
    DONE,
  ],
  formatStreamError: (model) =>
    formatChunk(model, [createChoice({ content: "" }, "error")], {
      error: { code: 502, message: "Provider disconnected", metadata: { error_type: "provider_unavailable" } },
    }),
};

/**
 * Unknown properties are rejected (`property 'store' is unsupported`, fanenr/chatbot#21). In 2024, that included
 * `stream_options` (vercel/ai#1578). The last chunk has the token count in `x_groq`.
 */
const groq: ServerProfile = {
  recipe: { heading: "Groq" },
  path: "/openai/v1/chat/completions",
  credential: bearer,
  wrongKey: createFailure(401, { message: "Invalid API Key", type: "invalid_request_error", code: "invalid_api_key" }),
  wrongPath: createFailure(404, {
    message: "Unknown request URL: POST /chat/completions.",
    type: "invalid_request_error",
    code: "unknown_url",
  }),
  unknownModel: createFailure(404, {
    message: "The model `x` does not exist or you do not have access to it.",
    type: "invalid_request_error",
    code: "model_not_found",
  }),
  findRejection: (body) =>
    "stream_options" in body
      ? createFailure(400, {
          message: "property 'stream_options' is unsupported, did you mean 'stream'?",
          type: "invalid_request_error",
        })
      : null,
  tokenCount: { input: 40, output: 8 },
  streamAnswer: (model, pieces) => [
    formatChunk(model, [createChoice({ role: "assistant", content: "" })], { x_groq: { id: "req_1" } }),
    ...formatTextChunks(model, pieces),
    formatChunk(model, [createChoice({}, "stop")], {
      x_groq: {
        id: "req_1",
        usage: { queue_time: 0.02, prompt_time: 0.001, ...formatUsage(groq.tokenCount), total_time: 0.1 },
      },
    }),
    DONE,
  ],
  formatStreamError: (model) =>
    formatChunk(model, [createChoice({}, null)], { x_groq: { id: "req_1", error: "over capacity, please try again" } }),
};

const createExtraFieldFailure = (field: string): Failure => ({
  status: 422,
  body: {
    object: "error",
    message: {
      detail: [{ type: "extra_forbidden", loc: ["body", field], msg: "Extra inputs are not permitted", input: {} }],
    },
    type: "invalid_request_error",
    param: null,
    code: null,
  },
});

/**
 * Unknown fields are rejected with a Pydantic error list (editor-code-assistant/eca#231, nomtek/mistralai_client_dart#44).
 * The token count is in the chunk with the finish reason.
 */
const mistral: ServerProfile = {
  recipe: { heading: "Mistral" },
  path: "/v1/chat/completions",
  credential: bearer,
  wrongKey: { status: 401, body: { detail: "Unauthorized" } },
  wrongPath: { status: 404, body: { message: "no Route matched with those values", request_id: "1" } },
  unknownModel: {
    status: 400,
    body: { object: "error", message: "Invalid model: x", type: "invalid_model", param: null, code: "1500" },
  },
  findRejection(body) {
    const knownFields =
      "model messages stream temperature top_p max_tokens stop tools tool_choice parallel_tool_calls".split(" ");
    const extraField = Object.keys(body).find((field) => !knownFields.includes(field));
    return extraField === undefined ? null : createExtraFieldFailure(extraField);
  },
  tokenCount: { input: 15, output: 11 },
  streamAnswer: (model, pieces) => [
    formatChunk(model, [createChoice({ role: "assistant", content: "" })]),
    ...formatTextChunks(model, pieces),
    formatChunk(model, [createChoice({ content: "" }, "stop")], { usage: formatUsage(mistral.tokenCount) }),
    DONE,
  ],
  formatStreamError: () =>
    formatEvent({
      object: "error",
      message: "Service tier capacity exceeded",
      type: "service_tier_capacity_exceeded",
      code: "3505",
    }),
};

/**
 * The stream has comments while a request is queued (tmc/langchaingo#1171). The token count is in the last chunk with a
 * choice. Cached tokens have a second field name (neuron-core/neuron-ai#223, moona3k/macparakeet#1087).
 */
const deepSeek: ServerProfile = {
  recipe: { heading: "DeepSeek" },
  path: "/v1/chat/completions",
  credential: bearer,
  wrongKey: createFailure(401, {
    message: "Authentication Fails, Your api key: ****mple is invalid",
    type: "authentication_error",
    param: null,
    code: "invalid_request_error",
  }),
  wrongPath: { status: 404, body: "" },
  unknownModel: createFailure(400, {
    message: "Model Not Exist",
    type: "invalid_request_error",
    param: null,
    code: "invalid_request_error",
  }),
  tokenCount: { input: 64, output: 10, cached: 32 },
  streamAnswer: (model, pieces) => [
    ": keep-alive\n\n",
    "\n",
    ": keep-alive\n\n",
    formatChunk(model, [createChoice({ role: "assistant", content: "" }, null, { logprobs: null })], { usage: null }),
    ...formatTextChunks(model, pieces, { usage: null }),
    formatChunk(model, [createChoice({ content: "" }, "stop", { logprobs: null })], {
      usage: {
        ...formatUsage(deepSeek.tokenCount),
        prompt_tokens_details: { cached_tokens: 32 },
        prompt_cache_hit_tokens: 32,
        prompt_cache_miss_tokens: 32,
      },
    }),
    DONE,
  ],
  formatStreamError: (model) => formatChunk(model, [createChoice({ content: "" }, "insufficient_system_resource")]),
};

/**
 * Each choice contains its text twice, the finish reason is `eos` instead of `stop`, and the token count is in the last chunk
 * with text (mlflow/mlflow#11557).
 */
const together: ServerProfile = {
  recipe: { heading: "Together AI" },
  path: "/v1/chat/completions",
  credential: bearer,
  wrongKey: createFailure(401, {
    message: "Invalid API key provided. You can find your API key at https://api.together.xyz/settings/api-keys.",
    type: "invalid_request_error",
    param: null,
    code: "invalid_api_key",
  }),
  wrongPath: { status: 404, body: { error: "Not Found" } },
  unknownModel: createFailure(404, {
    message: "Unable to access model x.",
    type: "invalid_request_error",
    param: null,
    code: "model_not_available",
  }),
  tokenCount: { input: 44, output: 6 },
  streamAnswer: (model, pieces) => [
    ...pieces.map((content, index) => {
      const isLast = index === pieces.length - 1;
      const choice = createChoice(
        { token_id: index, role: "assistant", content, tool_calls: null },
        isLast ? "eos" : null,
        {
          text: content,
          logprobs: null,
        },
      );
      return formatChunk(model, [choice], { usage: isLast ? formatUsage(together.tokenCount) : null });
    }),
    DONE,
  ],
  formatStreamError: () =>
    formatEvent({ error: { message: "Internal server error", type: "server_error", param: null, code: null } }),
};

/** Servers of model vendors, and of companies that host other vendors' models. */
export const hostedServers: readonly ServerProfile[] = [openRouter, groq, mistral, deepSeek, together];
