import {
  createChoice,
  DONE,
  formatChunk,
  formatEvent,
  formatTextChunks,
  formatUsage,
  type ServerProfile,
} from "./server-profile.ts";

/**
 * No key is required. Every chunk has a `finish_reason`, which is an empty string in older versions (ollama/ollama#4357). A
 * missing model returns 404 with an `api_error` (netease-youdao/QAnything#555). A message with null content and no tool
 * calls is rejected with `invalid message content type: <nil>`.
 */
const ollama: ServerProfile = {
  recipe: { heading: "Ollama" },
  path: "/v1/chat/completions",
  credential: null,
  wrongPath: { status: 404, body: "404 page not found" },
  unknownModel: {
    status: 404,
    body: {
      error: { message: 'model "x" not found, try pulling it first', type: "api_error", param: null, code: null },
    },
  },
  findRejection(body) {
    const messages = body.messages as { content: unknown; tool_calls?: unknown }[];
    if (messages.every(({ content, tool_calls }) => typeof content === "string" || tool_calls)) return null;
    return {
      status: 400,
      body: { error: { message: "invalid message content type: <nil>", type: "invalid_request_error" } },
    };
  },
  tokenCount: { input: 26, output: 3 },
  streamAnswer: (model, pieces) => [
    ...pieces.map((content) =>
      formatChunk(model, [createChoice({ role: "assistant", content }, "")], { system_fingerprint: "fp_ollama" }),
    ),
    formatChunk(model, [createChoice({ role: "assistant", content: "" }, "stop")]),
    formatChunk(model, [], { usage: formatUsage(ollama.tokenCount) }),
    DONE,
  ],
  formatStreamError: () =>
    formatEvent({ error: { message: "an error was encountered while running the model", type: "api_error" } }),
};

/**
 * If the key is wrong, `error` is a string (sgl-project/sglang#25127; SGLang's server is derived from vLLM's).
 * Other errors have `object: "error"`.
 */
const vllm: ServerProfile = {
  recipe: { heading: "vLLM" },
  path: "/v1/chat/completions",
  credential: { field: "authorization", scheme: "Bearer " },
  wrongKey: { status: 401, body: { error: "Unauthorized" } },
  wrongPath: { status: 404, body: { detail: "Not Found" } },
  unknownModel: {
    status: 404,
    body: {
      object: "error",
      message: "The model `x` does not exist.",
      type: "NotFoundError",
      param: null,
      code: 404,
    },
  },
  tokenCount: { input: 31, output: 4 },
  streamAnswer: (model, pieces) => [
    formatChunk(model, [
      createChoice({ role: "assistant", content: "" }, null, { stop_reason: null, token_ids: null }),
    ]),
    ...formatTextChunks(model, pieces),
    formatChunk(model, [createChoice({ content: "" }, "stop", { stop_reason: null })]),
    formatChunk(model, [], { usage: { ...formatUsage(vllm.tokenCount), prompt_tokens_details: null } }),
    DONE,
  ],
  formatStreamError: () =>
    formatEvent({
      error: { object: "error", message: "EngineDeadError", type: "InternalServerError", param: null, code: 500 },
    }),
};

/** Error codes are numbers (see `format_error_response` in llama.cpp's server). The last chunk has `timings`. */
const llamaCpp: ServerProfile = {
  recipe: { heading: "llama.cpp" },
  path: "/v1/chat/completions",
  credential: { field: "authorization", scheme: "Bearer " },
  wrongKey: {
    status: 401,
    body: { error: { code: 401, message: "Invalid API Key", type: "authentication_error" } },
  },
  wrongPath: { status: 404, body: { error: { code: 404, message: "File Not Found", type: "not_found_error" } } },
  unknownModel: { status: 404, body: { error: { code: 404, message: "model not found", type: "not_found_error" } } },
  tokenCount: { input: 17, output: 5 },
  streamAnswer: (model, pieces) => [
    formatChunk(model, [createChoice({ role: "assistant", content: null })]),
    ...formatTextChunks(model, pieces),
    formatChunk(model, [createChoice({}, "stop")]),
    formatChunk(model, [], {
      usage: formatUsage(llamaCpp.tokenCount),
      timings: { cache_n: 0, prompt_n: 17, predicted_n: 5, predicted_per_second: 41.2 },
    }),
    DONE,
  ],
  formatStreamError: () =>
    `error: ${JSON.stringify({ code: 500, message: "slot unavailable", type: "server_error" })}\n\n`,
};

/** A wrong path returns 200 with JSON (lmstudio-ai/lmstudio-bug-tracker#618). An error in a stream is an `error` event. */
const lmStudio: ServerProfile = {
  recipe: { heading: "LM Studio" },
  path: "/v1/chat/completions",
  credential: null,
  wrongPath: { status: 200, body: { error: "Unexpected endpoint or method. (POST /chat/completions)" } },
  unknownModel: { status: 404, body: { error: { message: 'Model "x" not found.', code: "model_not_found" } } },
  tokenCount: { input: 12, output: 6 },
  streamAnswer: (model, pieces) => [
    ...formatTextChunks(model, pieces, { system_fingerprint: model }),
    formatChunk(model, [createChoice({}, "stop")], { system_fingerprint: model }),
    formatChunk(model, [], { usage: formatUsage(lmStudio.tokenCount), stats: {} }),
    DONE,
  ],
  formatStreamError: () =>
    `event: error\n${formatEvent({ error: { message: "The model has crashed without additional information." } })}`,
};

/**
 * An error's code is a string of digits, and its `param` is the string "None" (BerriAI/litellm). The chunk with the token
 * count also has a choice.
 */
const liteLlm: ServerProfile = {
  recipe: { heading: "LiteLLM proxy" },
  path: "/v1/chat/completions",
  credential: { field: "authorization", scheme: "Bearer " },
  wrongKey: {
    status: 401,
    body: {
      error: {
        message: "Authentication Error, LiteLLM Virtual Key expected. Received=sk-****, expected to start with 'sk-'.",
        type: "auth_error",
        param: "None",
        code: "401",
      },
    },
  },
  wrongPath: { status: 404, body: { detail: "Not Found" } },
  unknownModel: {
    status: 400,
    body: {
      error: {
        message:
          "/chat/completions: Invalid model name passed in model=x. Call `/v1/models` to view available models for your key.",
        type: "None",
        param: "None",
        code: "400",
      },
    },
  },
  tokenCount: { input: 20, output: 7, cached: 8 },
  streamAnswer: (model, pieces) => [
    ...formatTextChunks(model, pieces),
    formatChunk(model, [createChoice({}, "stop")]),
    formatChunk(model, [createChoice({})], {
      usage: { ...formatUsage(liteLlm.tokenCount), prompt_tokens_details: { cached_tokens: 8 } },
    }),
    DONE,
  ],
  formatStreamError: () =>
    formatEvent({
      error: { message: "litellm.APIConnectionError: OpenAIException", type: "None", param: "None", code: "500" },
    }),
};

/** Servers that users run themselves. */
export const localServers: readonly ServerProfile[] = [ollama, vllm, llamaCpp, lmStudio, liteLlm];
