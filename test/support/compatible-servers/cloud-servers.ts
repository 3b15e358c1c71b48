import { chunk, DONE, data, delta, type Failure, type Quirks, textChunks, usageOf } from "./quirks.ts";

const safe = { filtered: false, severity: "safe" };
const filtered = { hate: safe, self_harm: safe, sexual: safe, violence: safe };

const azureFailures: Pick<Quirks, "wrongKey" | "wrongPath" | "unknownModel"> = {
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
 * The first chunk has no choices, only filter results (AbanteAI/archive-old-cli-mentat#429); a later one has a choice
 * without a delta (microsoft/autogen#6465).
 */
const azure = (block: number, path: string): Quirks => {
  const counted = { input: 21, output: 12, cached: 0, reasoning: 0 };
  return {
    recipe: { heading: "Azure OpenAI", block },
    path,
    credential: { field: "api-key", scheme: "" },
    ...azureFailures,
    counted,
    stream: (model, pieces) => [
      data({
        choices: [],
        created: 0,
        id: "",
        model: "",
        object: "",
        prompt_filter_results: [{ prompt_index: 0, content_filter_results: filtered }],
      }),
      chunk(model, [delta({ role: "assistant", content: "" }, null, { content_filter_results: {}, logprobs: null })]),
      ...textChunks(model, pieces),
      chunk(model, [delta({}, "stop", { content_filter_results: {} })]),
      data({
        id: "",
        object: "",
        created: 0,
        model: "",
        choices: [
          {
            index: 0,
            finish_reason: null,
            content_filter_results: filtered,
            content_filter_offsets: { check_offset: 44, start_offset: 44, end_offset: 198 },
          },
        ],
      }),
      chunk(model, [], {
        usage: {
          ...usageOf(counted),
          prompt_tokens_details: { cached_tokens: 0 },
          completion_tokens_details: { reasoning_tokens: 0, accepted_prediction_tokens: 0 },
        },
      }),
      DONE,
    ],
    breakOff: () =>
      data({ error: { message: "The server had an error.", type: "server_error", param: null, code: null } }),
  };
};

/** Google's errors come in an array (continuedev/continue#8516, Simpleyyt/ai-manus#101). */
const inArray = (code: number, status: string, message: string, details: unknown[] = []): Failure => ({
  status: code,
  body: [{ error: { code, message, status, details } }],
});

/**
 * The base URL has a trailing slash. Every chunk has a running token count, and none has only a count. An invalid key is
 * refused with 400 and the reason in the details (continuedev/continue#8516). Here its stream also ends without [DONE], as
 * others' do (huggingface/text-generation-inference#2221).
 */
const gemini: Quirks = {
  recipe: { heading: "Gemini" },
  path: "/v1beta/openai/chat/completions",
  credential: { field: "authorization", scheme: "Bearer " },
  wrongKey: inArray(400, "INVALID_ARGUMENT", "API key not valid. Please pass a valid API key.", [
    { "@type": "type.googleapis.com/google.rpc.ErrorInfo", reason: "API_KEY_INVALID", domain: "googleapis.com" },
  ]),
  wrongPath: { status: 404, body: "" },
  unknownModel: inArray(404, "NOT_FOUND", "models/x is not found for API version v1main."),
  counted: { input: 19, output: 13 },
  stream: (model, pieces) =>
    pieces.map((content, index) => {
      const isLast = index === pieces.length - 1;
      const counted = isLast ? gemini.counted : { input: 19, output: index + 1 };
      return chunk(model, [delta({ role: "assistant", content }, isLast ? "stop" : null)], { usage: usageOf(counted) });
    }),
  breakOff: () => data([{ error: { code: 503, message: "The model is overloaded.", status: "UNAVAILABLE" } }]),
};

/** Clouds with deviating formats. */
export const cloudServers: readonly Quirks[] = [
  azure(0, "/openai/v1/chat/completions"),
  azure(1, "/openai/deployments/my-mini/chat/completions?api-version=2024-10-21"),
  gemini,
];
