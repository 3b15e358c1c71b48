import { chunk, DONE, data, delta, type Quirks, textChunks, usageOf } from "./quirks.ts";

/**
 * No key. Every chunk has a `finish_reason`, which was an empty string for a long time (ollama/ollama#4357). A missing model
 * is an `api_error` with 404 (netease-youdao/QAnything#555). A null content without calls is refused with
 * `invalid message content type: <nil>`.
 */
const ollama: Quirks = {
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
  refuse(body) {
    const messages = body.messages as { content: unknown; tool_calls?: unknown }[];
    if (messages.every(({ content, tool_calls }) => typeof content === "string" || tool_calls)) return null;
    return {
      status: 400,
      body: { error: { message: "invalid message content type: <nil>", type: "invalid_request_error" } },
    };
  },
  counted: { input: 26, output: 3 },
  stream: (model, pieces) => [
    ...pieces.map((content) =>
      chunk(model, [delta({ role: "assistant", content }, "")], { system_fingerprint: "fp_ollama" }),
    ),
    chunk(model, [delta({ role: "assistant", content: "" }, "stop")]),
    chunk(model, [], { usage: usageOf(ollama.counted) }),
    DONE,
  ],
  breakOff: () => data({ error: { message: "an error was encountered while running the model", type: "api_error" } }),
};

/**
 * The error of a wrong key is a string (sgl-project/sglang#25127, whose server is based on it); others are errors by
 * their `object`. Without --enable-auto-tool-choice it refuses every request with tools.
 */
const vllm: Quirks = {
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
  counted: { input: 31, output: 4 },
  stream: (model, pieces) => [
    chunk(model, [delta({ role: "assistant", content: "" }, null, { stop_reason: null, token_ids: null })]),
    ...textChunks(model, pieces),
    chunk(model, [delta({ content: "" }, "stop", { stop_reason: null })]),
    chunk(model, [], { usage: { ...usageOf(vllm.counted), prompt_tokens_details: null } }),
    DONE,
  ],
  breakOff: () =>
    data({
      error: { object: "error", message: "EngineDeadError", type: "InternalServerError", param: null, code: 500 },
    }),
};

/** Error codes are numbers, as in `format_error_response` of its server. The last chunk has `timings`. */
const llamaCpp: Quirks = {
  recipe: { heading: "llama.cpp" },
  path: "/v1/chat/completions",
  credential: { field: "authorization", scheme: "Bearer " },
  wrongKey: {
    status: 401,
    body: { error: { code: 401, message: "Invalid API Key", type: "authentication_error" } },
  },
  wrongPath: { status: 404, body: { error: { code: 404, message: "File Not Found", type: "not_found_error" } } },
  unknownModel: { status: 404, body: { error: { code: 404, message: "model not found", type: "not_found_error" } } },
  counted: { input: 17, output: 5 },
  stream: (model, pieces) => [
    chunk(model, [delta({ role: "assistant", content: null })]),
    ...textChunks(model, pieces),
    chunk(model, [delta({}, "stop")]),
    chunk(model, [], {
      usage: usageOf(llamaCpp.counted),
      timings: { cache_n: 0, prompt_n: 17, predicted_n: 5, predicted_per_second: 41.2 },
    }),
    DONE,
  ],
  breakOff: () => `error: ${JSON.stringify({ code: 500, message: "slot unavailable", type: "server_error" })}\n\n`,
};

/**
 * A wrong path returns 200 with a document (lmstudio-ai/lmstudio-bug-tracker#618). Errors in a stream have a separate
 * event.
 */
const lmStudio: Quirks = {
  recipe: { heading: "LM Studio" },
  path: "/v1/chat/completions",
  credential: null,
  wrongPath: { status: 200, body: { error: "Unexpected endpoint or method. (POST /chat/completions)" } },
  unknownModel: { status: 404, body: { error: { message: 'Model "x" not found.', code: "model_not_found" } } },
  counted: { input: 12, output: 6 },
  stream: (model, pieces) => [
    ...textChunks(model, pieces, { system_fingerprint: model }),
    chunk(model, [delta({}, "stop")], { system_fingerprint: model }),
    chunk(model, [], { usage: usageOf(lmStudio.counted), stats: {} }),
    DONE,
  ],
  breakOff: () =>
    `event: error\n${data({ error: { message: "The model has crashed without additional information." } })}`,
};

/**
 * The code of an error is a string of digits, and `param` the string None (BerriAI/litellm). The token count comes with
 * a choice.
 */
const liteLlm: Quirks = {
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
  counted: { input: 20, output: 7, cached: 8 },
  stream: (model, pieces) => [
    ...textChunks(model, pieces),
    chunk(model, [delta({}, "stop")]),
    chunk(model, [delta({})], { usage: { ...usageOf(liteLlm.counted), prompt_tokens_details: { cached_tokens: 8 } } }),
    DONE,
  ],
  breakOff: () =>
    data({
      error: { message: "litellm.APIConnectionError: OpenAIException", type: "None", param: "None", code: "500" },
    }),
};

/** Servers that run on a local machine. */
export const localServers: readonly Quirks[] = [ollama, vllm, llamaCpp, lmStudio, liteLlm];
