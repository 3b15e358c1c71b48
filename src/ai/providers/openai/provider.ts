import OpenAI, { APIError, type ClientOptions } from "openai";
import type { Provider } from "../../provider.ts";
import type { HttpFailure } from "../../provider-error.ts";
import { createSendBody, SDK_TIMEOUT_MS } from "../sdk-request.ts";
import { streamAnswer } from "../stream-answer.ts";
import { createResponsesMapper, mapToResponsesRequest } from "./map-responses.ts";

const DEFAULT_BASE_URL = "https://api.openai.com/v1";

/** OpenAI by its Responses API. */
export function createOpenAiProvider(options: { apiKey: string; baseUrl?: string | undefined }): Provider {
  const { apiKey, baseUrl = DEFAULT_BASE_URL } = options;
  const sendBody = createSendBody((fetch) =>
    createOpenAiClient(apiKey, baseUrl, fetch).responses.create({ input: [], stream: true }).asResponse(),
  );
  return {
    name: "openai",
    stream: (request, push) =>
      streamAnswer(request, push, {
        send: () => sendBody(mapToResponsesRequest(request), request.signal),
        mapper: createResponsesMapper(),
        mapSdkError: mapOpenAiError,
        secrets: [apiKey],
      }),
  };
}

/** The SDK, silent and without retries; from the environment it takes nothing but `OPENAI_CUSTOM_HEADERS`. */
export function createOpenAiClient(
  apiKey: string,
  baseURL: string,
  fetch: NonNullable<ClientOptions["fetch"]>,
): OpenAI {
  return new OpenAI({
    apiKey,
    baseURL,
    adminAPIKey: null,
    organization: null,
    project: null,
    webhookSecret: null,
    maxRetries: 0,
    timeout: SDK_TIMEOUT_MS,
    logLevel: "off",
    fetch,
  });
}

/** What an error of the `openai` SDK says, or null when it is not one. */
export function mapOpenAiError(error: unknown): HttpFailure | null {
  if (!(error instanceof APIError)) return null;
  const cause = error.cause instanceof Error ? ` (${error.cause.message})` : "";
  const code = error.code ? ` [${error.code}]` : "";
  return { status: error.status ?? null, headers: error.headers ?? null, message: `${error.message}${code}${cause}` };
}
