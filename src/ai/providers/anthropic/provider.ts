import Anthropic, { APIError, type ClientOptions } from "@anthropic-ai/sdk";
import type { Provider } from "../../provider.ts";
import type { HttpFailure } from "../../provider-error.ts";
import { createSendBody, SDK_TIMEOUT_MS } from "../sdk-request.ts";
import { streamAnswer } from "../stream-answer.ts";
import { createMessagesMapper, mapToMessagesRequest } from "./map-messages.ts";

const DEFAULT_BASE_URL = "https://api.anthropic.com";

/** Anthropic by its Messages API. */
export function createAnthropicProvider(options: { apiKey: string; baseUrl?: string | undefined }): Provider {
  const { apiKey, baseUrl = DEFAULT_BASE_URL } = options;
  const sendBody = createSendBody((fetch) =>
    createAnthropicClient(apiKey, baseUrl, fetch)
      .messages.create({ model: "", max_tokens: 1, messages: [], stream: true })
      .asResponse(),
  );
  return {
    name: "anthropic",
    stream: (request, push) =>
      streamAnswer(request, push, {
        send: () => sendBody(mapToMessagesRequest(request), request.signal),
        mapper: createMessagesMapper(),
        mapSdkError: mapAnthropicError,
        secrets: [apiKey],
      }),
  };
}

/** The SDK, silent and without retries; from the environment it takes nothing but `ANTHROPIC_CUSTOM_HEADERS`. */
export function createAnthropicClient(
  apiKey: string,
  baseURL: string,
  fetch: NonNullable<ClientOptions["fetch"]>,
): Anthropic {
  return new Anthropic({
    apiKey,
    baseURL,
    webhookKey: null,
    maxRetries: 0,
    timeout: SDK_TIMEOUT_MS,
    logLevel: "off",
    fetch,
  });
}

function mapAnthropicError(error: unknown): HttpFailure | null {
  if (!(error instanceof APIError)) return null;
  const cause = error.cause instanceof Error ? ` (${error.cause.message})` : "";
  return { status: error.status ?? null, headers: error.headers ?? null, message: `${error.message}${cause}` };
}
