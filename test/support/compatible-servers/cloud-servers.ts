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

const safeResult = { filterResults: false, severity: "safe" };
const filterResults = { hate: safeResult, self_harm: safeResult, sexual: safeResult, violence: safeResult };

const azureFailures: Pick<ServerProfile, "wrongKey" | "wrongPath" | "unknownModel"> = {
  wrongKey: {
    status: 401,
    body: {
      error: {
        code: "401",
        message:
          "Access denied due to invalid subscription key or wrong API endpoint. Make sure to provide a valid key.",
      },
    },
  },
  wrongPath: { status: 404, body: { error: { code: "404", message: "Resource not found" } } },
  // chatboxai/chatbox#646
  unknownModel: {
    status: 404,
    body: { error: { code: "DeploymentNotFound", message: "The API deployment for this resource does not exist." } },
  },
};

/**
 * The first chunk has no choices, only content filter results (AbanteAI/archive-old-cli-mentat#429). A later chunk has a
 * choice without a delta (microsoft/autogen#6465).
 */
const createAzure = (block: number, path: string): ServerProfile => {
  const tokenCount = { input: 21, output: 12, cached: 0, reasoning: 0 };
  return {
    recipe: { heading: "Azure OpenAI", block },
    path,
    credential: { field: "api-key", scheme: "" },
    ...azureFailures,
    tokenCount,
    streamAnswer: (model, pieces) => [
      formatEvent({
        choices: [],
        created: 0,
        id: "",
        model: "",
        object: "",
        prompt_filter_results: [{ prompt_index: 0, content_filter_results: filterResults }],
      }),
      formatChunk(model, [
        createChoice({ role: "assistant", content: "" }, null, { content_filter_results: {}, logprobs: null }),
      ]),
      ...formatTextChunks(model, pieces),
      formatChunk(model, [createChoice({}, "stop", { content_filter_results: {} })]),
      formatEvent({
        id: "",
        object: "",
        created: 0,
        model: "",
        choices: [
          {
            index: 0,
            finish_reason: null,
            content_filter_results: filterResults,
            content_filter_offsets: { check_offset: 44, start_offset: 44, end_offset: 198 },
          },
        ],
      }),
      formatChunk(model, [], {
        usage: {
          ...formatUsage(tokenCount),
          prompt_tokens_details: { cached_tokens: 0 },
          completion_tokens_details: { reasoning_tokens: 0, accepted_prediction_tokens: 0 },
        },
      }),
      DONE,
    ],
    formatStreamError: () =>
      formatEvent({ error: { message: "The server had an error.", type: "server_error", param: null, code: null } }),
  };
};

/** Google's error responses are arrays (continuedev/continue#8516, Simpleyyt/ai-manus#101). */
const createArrayFailure = (code: number, status: string, message: string, details: unknown[] = []): Failure => ({
  status: code,
  body: [{ error: { code, message, status, details } }],
});

/**
 * The base URL has a trailing slash. Every chunk has a running token count. An invalid key returns 400, with the reason
 * in `details` (continuedev/continue#8516). The stream ends without [DONE], as some other servers' streams do
 * (huggingface/text-generation-inference#2221).
 */
const gemini: ServerProfile = {
  recipe: { heading: "Gemini" },
  path: "/v1beta/openai/chat/completions",
  credential: { field: "authorization", scheme: "Bearer " },
  wrongKey: createArrayFailure(400, "INVALID_ARGUMENT", "API key not valid. Please pass a valid API key.", [
    { "@type": "type.googleapis.com/google.rpc.ErrorInfo", reason: "API_KEY_INVALID", domain: "googleapis.com" },
  ]),
  wrongPath: { status: 404, body: "" },
  unknownModel: createArrayFailure(404, "NOT_FOUND", "models/x is not found for API version v1main."),
  tokenCount: { input: 19, output: 13 },
  streamAnswer: (model, pieces) =>
    pieces.map((content, index) => {
      const isLast = index === pieces.length - 1;
      const tokenCount = isLast ? gemini.tokenCount : { input: 19, output: index + 1 };
      return formatChunk(model, [createChoice({ role: "assistant", content }, isLast ? "stop" : null)], {
        usage: formatUsage(tokenCount),
      });
    }),
  formatStreamError: () =>
    formatEvent([{ error: { code: 503, message: "The model is overloaded.", status: "UNAVAILABLE" } }]),
};

/** Cloud providers. */
export const cloudServers: readonly ServerProfile[] = [
  createAzure(0, "/openai/v1/chat/completions"),
  createAzure(1, "/openai/deployments/my-mini/chat/completions?api-version=2024-10-21"),
  gemini,
];
