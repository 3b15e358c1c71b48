import Anthropic, { APIError } from "@anthropic-ai/sdk";
import { httpFetch, SDK_TIMEOUT_MS } from "./http-fetch.ts";
import { createMessagesMapper, mapToMessagesRequest } from "./map-anthropic.ts";
import type { Provider } from "./provider.ts";
import type { HttpFailure } from "./provider-error.ts";
import { streamAnswer } from "./stream-answer.ts";

const DEFAULT_BASE_URL = "https://api.anthropic.com";

/** Anthropic by its Messages API. */
export function createAnthropicProvider(options: { apiKey: string; baseUrl?: string | undefined }): Provider {
  // Given in full, so that the SDK takes nothing from the environment.
  const client = new Anthropic({
    apiKey: options.apiKey,
    baseURL: options.baseUrl ?? DEFAULT_BASE_URL,
    webhookKey: null,
    maxRetries: 0,
    timeout: SDK_TIMEOUT_MS,
    logLevel: "off",
    fetch: httpFetch,
  });
  return {
    name: "anthropic",
    stream: (request) =>
      streamAnswer({
        signal: request.signal,
        send: () => client.messages.create(mapToMessagesRequest(request), { signal: request.signal }).asResponse(),
        mapper: createMessagesMapper(),
        mapSdkError: mapAnthropicError,
        secrets: [options.apiKey],
      }),
  };
}

function mapAnthropicError(error: unknown): HttpFailure | null {
  if (!(error instanceof APIError)) return null;
  const cause = error.cause instanceof Error ? ` (${error.cause.message})` : "";
  return { status: error.status ?? null, headers: error.headers ?? null, message: `${error.message}${cause}` };
}
