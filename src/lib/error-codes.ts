import { problemCodes } from "./problem.ts";

/** The explanation of a code on `/problems/<code>`. */
export type ErrorExplanation = {
  /** The HTTP status. Null if the code isn't used in HTTP responses or the status varies. */
  status: number | null;
  title: string;
  /** Whether the same request may succeed later. */
  temporary: boolean;
  meaning: string;
  /** How to fix it. */
  remedy: string;
};

/** Errors of models, in `error.code` of a message and in errors under `/v1`. */
export const providerCodes = {
  provider_unavailable: {
    status: 503,
    title: "The model can't be reached",
    temporary: true,
    meaning: "The model's provider didn't respond, returned an error (408, 409, 5xx), or its stream broke.",
    remedy: "Regenerate the response later. An administrator can find the cause in the log, under the message id.",
  },
  provider_rate_limited: {
    status: 429,
    title: "The model is rate-limiting requests",
    temporary: true,
    meaning: "The model's provider accepts no more requests from this server for now (429).",
    remedy: "Try again after `Retry-After`, or later. An administrator can add another model to `AI_MODELS`.",
  },
  provider_timeout: {
    status: 504,
    title: "The model didn't respond in time",
    temporary: true,
    meaning: "The model sent nothing for too long, or the whole response took longer than `AI_ANSWER_TIMEOUT_MS`.",
    remedy:
      "Try again. An administrator can raise `AI_FIRST_TOKEN_TIMEOUT_MS`, `AI_IDLE_TIMEOUT_MS` or `AI_ANSWER_TIMEOUT_MS`.",
  },
  provider_refused: {
    status: 400,
    title: "The model rejected the request",
    temporary: false,
    meaning: "The model's provider rejected the request (400, 404, 422), for instance because the model doesn't exist.",
    remedy: "Change the message or choose a different model. An administrator can find the reason in the log.",
  },
  provider_unauthorized: {
    status: 503,
    title: "The provider rejected this server's key",
    temporary: false,
    meaning:
      "The key that this server sends to the model's provider is missing, invalid or not allowed to use the model.",
    remedy: "Tell an administrator: the log mentions the setting to correct, such as `OPENAI_API_KEY`.",
  },
} as const satisfies Record<string, ErrorExplanation>;

/** Errors of responses in the wrong format, in `error.code` of a message and in errors under `/v1`. */
const answerCodes = {
  invalid_output: {
    status: 502,
    title: "The response doesn't have the requested format",
    temporary: true,
    meaning:
      "The model's text isn't JSON, doesn't match the schema of `reply_format` or `response_format`, or was cut off. The model was asked once to correct it, unless the text was cut off or already streamed under `/v1`. The message keeps the text.",
    remedy:
      "Ask again, use a different model, or simplify the schema. If the text was cut off, allow a longer response.",
  },
} as const satisfies Record<string, ErrorExplanation>;

/** Errors of imports, in `error.code` of an import. Imports also use the codes of HTTP responses. */
const importCodes = {
  wrong_source: {
    status: null,
    title: "The file is from a different source",
    temporary: false,
    meaning: "The uploaded file isn't an export of the application in `source`.",
    remedy: "Send the file again with the correct `source`: `chatgpt` or `claude`.",
  },
  expired: {
    status: null,
    title: "The uploaded file no longer exists",
    temporary: false,
    meaning: "The import wasn't finished within a day, so its uploaded file was deleted.",
    remedy: "Send the file again. Conversations that were already imported aren't imported twice.",
  },
} as const satisfies Record<string, ErrorExplanation>;

/** OpenAI's own codes, used only under `/v1`. */
const openAiCodes = {
  invalid_api_key: {
    status: 401,
    title: "The API key is invalid",
    temporary: false,
    meaning: "The access token or API key is missing or invalid, or has expired. Elsewhere this is `unauthorized`.",
    remedy: "Send an API key of this server with the scope `chat:completions`, not an OpenAI key.",
  },
  rate_limit_exceeded: {
    status: 429,
    title: "Too many requests",
    temporary: true,
    meaning: "The caller has reached a rate limit of this server. Elsewhere this is `rate_limited`.",
    remedy: "Try again after `Retry-After`.",
  },
  insufficient_quota: {
    status: 429,
    title: "The budget is used up",
    temporary: false,
    meaning:
      "Your budget on this server (elsewhere `budget_exceeded`), or the server's account at the model's provider is used up.",
    remedy: "Ask the administrator for a larger budget, or to check the account at the provider.",
  },
  model_not_found: {
    status: 404,
    title: "The model doesn't exist",
    temporary: false,
    meaning: "This server has no such model (elsewhere `unknown_model`), or its provider doesn't offer it.",
    remedy: "Choose a model from `GET /v1/models`.",
  },
  context_length_exceeded: {
    status: 400,
    title: "The request is longer than the model's context",
    temporary: false,
    meaning: "The messages have more tokens than the model can read.",
    remedy: "Shorten or remove messages, or choose a model with a larger context.",
  },
  request_too_large: {
    status: 413,
    title: "The provider doesn't accept a request of this size",
    temporary: false,
    meaning: "The request is larger than the model's provider accepts.",
    remedy: "Shorten the messages.",
  },
  string_above_max_length: {
    status: 400,
    title: "A string is too long for the provider",
    temporary: false,
    meaning: "A string in the request is longer than the model's provider accepts.",
    remedy: "Shorten the string in `param`.",
  },
  array_above_max_length: {
    status: 400,
    title: "A list is too long for the provider",
    temporary: false,
    meaning: "A list in the request is longer than the model's provider accepts.",
    remedy: "Shorten the list in `param`.",
  },
  content_policy_violation: {
    status: 400,
    title: "The provider rejected the content",
    temporary: false,
    meaning: "The model's provider rejected the content of the request under its content policy.",
    remedy: "Change the content, or choose a model from another provider.",
  },
  content_filter: {
    status: 400,
    title: "The provider filtered the content",
    temporary: false,
    meaning: "The model's provider rejected the content of the request under its content policy.",
    remedy: "Change the content, or choose a model from another provider.",
  },
  invalid_function_parameters: {
    status: 400,
    title: "The schema of a tool wasn't accepted",
    temporary: false,
    meaning: "The model's provider rejected the JSON schema of a tool.",
    remedy: "Correct the schema in `tools`; each provider supports only part of JSON Schema.",
  },
  invalid_json_schema: {
    status: 400,
    title: "A JSON schema wasn't accepted",
    temporary: false,
    meaning: "The model's provider rejected a JSON schema in the request.",
    remedy: "Correct the schema in `param`; each provider supports only part of JSON Schema.",
  },
  unsupported_parameter: {
    status: 400,
    title: "The model doesn't support a parameter",
    temporary: false,
    meaning: "This server, or the model, does not support a parameter of the request.",
    remedy: "Leave out the parameter in `param`.",
  },
  unknown_parameter: {
    status: 400,
    title: "The model doesn't know a parameter",
    temporary: false,
    meaning: "This server, or the model, does not know a parameter of the request.",
    remedy: "Leave out the parameter in `param`.",
  },
  unsupported_value: {
    status: 400,
    title: "The model doesn't support a value",
    temporary: false,
    meaning: "This server, or the model, does not support the value of a parameter of the request.",
    remedy: "Change or leave out the parameter in `param`.",
  },
  invalid_value: {
    status: 400,
    title: "The model didn't accept a value",
    temporary: false,
    meaning: "The model rejected the value of a parameter of the request.",
    remedy: "Change or leave out the parameter in `param`.",
  },
  invalid_type: {
    status: 400,
    title: "A parameter has the wrong type",
    temporary: false,
    meaning: "A parameter of the request has the wrong type for the model.",
    remedy: "Correct the type of the parameter in `param`.",
  },
  missing_required_parameter: {
    status: 400,
    title: "A parameter is missing",
    temporary: false,
    meaning: "The model needs a parameter that is missing from the request.",
    remedy: "Add the parameter in `param`.",
  },
} as const satisfies Record<string, ErrorExplanation>;

/** All error codes. Each has a page and a row in docs/errors.md. */
export const errorCodes = { ...problemCodes, ...providerCodes, ...answerCodes, ...importCodes, ...openAiCodes };
export type ErrorCode = keyof typeof errorCodes;

/** The stored error of a message or an import. */
export type StoredError = { code: ErrorCode; detail: string };

/** The groups of the index page, in order. */
export const errorGroups: readonly { title: string; codes: Readonly<Record<string, ErrorExplanation>> }[] = [
  { title: "Responses and frames", codes: problemCodes },
  { title: "Responses of models", codes: { ...providerCodes, ...answerCodes } },
  { title: "Imports", codes: importCodes },
  { title: "Only under /v1", codes: openAiCodes },
];
