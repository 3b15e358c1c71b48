import { chunk, DONE, data, delta, type Failure, type Quirks, textChunks, usageOf } from "./quirks.ts";

const bearer = { field: "authorization", scheme: "Bearer " };

const failure = (status: number, error: unknown): Failure => ({ status, body: { error } });

/**
 * Comments until a provider has capacity (openai/openai-go#227). An error after the headers is a chunk with both `error` and
 * a finished choice (damianvtran/local-operator#223). Error codes are numbers.
 */
const openRouter: Quirks = {
  recipe: { heading: "OpenRouter" },
  path: "/api/v1/chat/completions",
  credential: bearer,
  wrongKey: failure(401, { message: "No auth credentials found", code: 401 }),
  wrongPath: { status: 404, body: "<!DOCTYPE html><title>Not Found</title>" },
  unknownModel: failure(400, { message: "x is not a valid model ID", code: 400 }),
  counted: { input: 14, output: 9, cached: 4, reasoning: 2 },
  stream: (model, pieces) => [
    ": OPENROUTER PROCESSING\n\n",
    ": OPENROUTER PROCESSING\n\n",
    ...pieces.map((content) =>
      chunk(model, [delta({ role: "assistant", content }, null, { native_finish_reason: null, logprobs: null })], {
        provider: "Anthropic",
      }),
    ),
    chunk(model, [delta({ role: "assistant", content: "" }, "stop", { native_finish_reason: "end_turn" })]),
    chunk(model, [delta({ role: "assistant", content: "" }, null, { native_finish_reason: null })], {
      usage: {
        ...usageOf(openRouter.counted),
        cost: 0.000_19,
        prompt_tokens_details: { cached_tokens: 4 },
        completion_tokens_details: { reasoning_tokens: 2 },
      },
    }),
    DONE,
  ],
  breakOff: (model) =>
    chunk(model, [delta({ content: "" }, "error")], {
      error: { code: 502, message: "Provider disconnected", metadata: { error_type: "provider_unavailable" } },
    }),
};

/**
 * Unknown properties are refused (`property 'store' is unsupported`, fanenr/chatbot#21), including `stream_options` in 2024
 * (vercel/ai#1578). Tokens are counted in `x_groq`, next to the last choice.
 */
const groq: Quirks = {
  recipe: { heading: "Groq" },
  path: "/openai/v1/chat/completions",
  credential: bearer,
  wrongKey: failure(401, { message: "Invalid API Key", type: "invalid_request_error", code: "invalid_api_key" }),
  wrongPath: failure(404, {
    message: "Unknown request URL: POST /chat/completions.",
    type: "invalid_request_error",
    code: "unknown_url",
  }),
  unknownModel: failure(404, {
    message: "The model `x` does not exist or you do not have access to it.",
    type: "invalid_request_error",
    code: "model_not_found",
  }),
  refuse: (body) =>
    "stream_options" in body
      ? failure(400, {
          message: "property 'stream_options' is unsupported, did you mean 'stream'?",
          type: "invalid_request_error",
        })
      : null,
  counted: { input: 40, output: 8 },
  stream: (model, pieces) => [
    chunk(model, [delta({ role: "assistant", content: "" })], { x_groq: { id: "req_1" } }),
    ...textChunks(model, pieces),
    chunk(model, [delta({}, "stop")], {
      x_groq: {
        id: "req_1",
        usage: { queue_time: 0.02, prompt_time: 0.001, ...usageOf(groq.counted), total_time: 0.1 },
      },
    }),
    DONE,
  ],
  breakOff: (model) =>
    chunk(model, [delta({}, null)], { x_groq: { id: "req_1", error: "over capacity, please try again" } }),
};

const forbidden = (field: string): Failure => ({
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
 * Unknown fields are refused with pydantic's error list (editor-code-assistant/eca#231, nomtek/mistralai_client_dart#44).
 * The token count is in the chunk with the finish reason.
 */
const mistral: Quirks = {
  recipe: { heading: "Mistral" },
  path: "/v1/chat/completions",
  credential: bearer,
  wrongKey: { status: 401, body: { detail: "Unauthorized" } },
  wrongPath: { status: 404, body: { message: "no Route matched with those values", request_id: "1" } },
  unknownModel: {
    status: 400,
    body: { object: "error", message: "Invalid model: x", type: "invalid_model", param: null, code: "1500" },
  },
  refuse(body) {
    const known = "model messages stream temperature top_p max_tokens stop tools tool_choice parallel_tool_calls".split(
      " ",
    );
    const extra = Object.keys(body).find((field) => !known.includes(field));
    return extra === undefined ? null : forbidden(extra);
  },
  counted: { input: 15, output: 11 },
  stream: (model, pieces) => [
    chunk(model, [delta({ role: "assistant", content: "" })]),
    ...textChunks(model, pieces),
    chunk(model, [delta({ content: "" }, "stop")], { usage: usageOf(mistral.counted) }),
    DONE,
  ],
  breakOff: () =>
    data({
      object: "error",
      message: "Service tier capacity exceeded",
      type: "service_tier_capacity_exceeded",
      code: "3505",
    }),
};

/**
 * Comments while a request waits (tmc/langchaingo#1171); the token count is on the last chunk with a choice, and cached
 * tokens have different names (neuron-core/neuron-ai#223, moona3k/macparakeet#1087).
 */
const deepSeek: Quirks = {
  recipe: { heading: "DeepSeek" },
  path: "/v1/chat/completions",
  credential: bearer,
  wrongKey: failure(401, {
    message: "Authentication Fails, Your api key: ****mple is invalid",
    type: "authentication_error",
    param: null,
    code: "invalid_request_error",
  }),
  wrongPath: { status: 404, body: "" },
  unknownModel: failure(400, {
    message: "Model Not Exist",
    type: "invalid_request_error",
    param: null,
    code: "invalid_request_error",
  }),
  counted: { input: 64, output: 10, cached: 32 },
  stream: (model, pieces) => [
    ": keep-alive\n\n",
    "\n",
    ": keep-alive\n\n",
    chunk(model, [delta({ role: "assistant", content: "" }, null, { logprobs: null })], { usage: null }),
    ...textChunks(model, pieces, { usage: null }),
    chunk(model, [delta({ content: "" }, "stop", { logprobs: null })], {
      usage: {
        ...usageOf(deepSeek.counted),
        prompt_tokens_details: { cached_tokens: 32 },
        prompt_cache_hit_tokens: 32,
        prompt_cache_miss_tokens: 32,
      },
    }),
    DONE,
  ],
  breakOff: (model) => chunk(model, [delta({ content: "" }, "insufficient_system_resource")]),
};

/** Text in two places of a choice, `eos` for `stop`, and the token count on the last piece of text (mlflow/mlflow#11557). */
const together: Quirks = {
  recipe: { heading: "Together AI" },
  path: "/v1/chat/completions",
  credential: bearer,
  wrongKey: failure(401, {
    message: "Invalid API key provided. You can find your API key at https://api.together.xyz/settings/api-keys.",
    type: "invalid_request_error",
    param: null,
    code: "invalid_api_key",
  }),
  wrongPath: { status: 404, body: { error: "Not Found" } },
  unknownModel: failure(404, {
    message: "Unable to access model x.",
    type: "invalid_request_error",
    param: null,
    code: "model_not_available",
  }),
  counted: { input: 44, output: 6 },
  stream: (model, pieces) => [
    ...pieces.map((content, index) => {
      const isLast = index === pieces.length - 1;
      const choice = delta({ token_id: index, role: "assistant", content, tool_calls: null }, isLast ? "eos" : null, {
        text: content,
        logprobs: null,
      });
      return chunk(model, [choice], { usage: isLast ? usageOf(together.counted) : null });
    }),
    DONE,
  ],
  breakOff: () => data({ error: { message: "Internal server error", type: "server_error", param: null, code: null } }),
};

/** Hosted servers: of companies that serve other vendors' models, and of model vendors. */
export const hostedServers: readonly Quirks[] = [openRouter, groq, mistral, deepSeek, together];
