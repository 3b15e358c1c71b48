import Anthropic, { APIError, type ClientOptions } from "@anthropic-ai/sdk";
import { type HeaderFields, listHeaderSecrets } from "../../../lib/header-fields.ts";
import { listAddressSecrets } from "../../../lib/mask-address.ts";
import type { FindProxy } from "../../../lib/outgoing/find-proxy.ts";
import type { Provider } from "../../provider.ts";
import type { HttpFailure } from "../../provider-error.ts";
import { splitBaseUrl } from "../base-url.ts";
import { createParameterAdapter } from "../parameters/adapter.ts";
import type { RequestObserver } from "../request-observer.ts";
import { createBodySender, SDK_TIMEOUT_MS } from "../sdk-request.ts";
import { streamAnswer } from "../stream-answer.ts";
import { mapToMessagesRequest } from "./map-messages.ts";
import { createMessagesMapper } from "./read-messages.ts";

const NAME = "anthropic";
export const ANTHROPIC_BASE_URL_DEFAULT = "https://api.anthropic.com";

/**
 * Creates the provider for Anthropic's Messages API.
 * @param options.headers sent with every request. They override Parley's own headers.
 */
export function createAnthropicProvider(options: {
  apiKey: string;
  baseUrl?: string | undefined;
  headers?: HeaderFields;
  observer?: RequestObserver;
  findProxy?: FindProxy;
}): Provider {
  const { apiKey, baseUrl = ANTHROPIC_BASE_URL_DEFAULT, headers = {}, observer = {}, findProxy } = options;
  const sendBody = createBodySender(
    (fetch) =>
      createAnthropicClient(apiKey, baseUrl, fetch)
        .messages.create({ model: "", max_tokens: 1, messages: [], stream: true }, { headers })
        .asResponse(),
    createParameterAdapter({ api: "messages", onParameterRejected: observer.onParameterRejected }),
    { onResend: observer.onResend, findProxy },
  );
  const secrets = [apiKey, ...listAddressSecrets(baseUrl), ...listHeaderSecrets(headers)];
  return {
    name: NAME,
    api: "messages",
    stream: (request, push) =>
      streamAnswer(request, push, {
        send: (onBytes) =>
          sendBody(mapToMessagesRequest(request, NAME), request.signal, onBytes, (errorText) =>
            rejectsThinking(errorText) ? mapToMessagesRequest(request, NAME, true) : null,
          ),
        createMapper: () => createMessagesMapper({ provider: NAME, model: request.model }),
        mapSdkError: mapAnthropicError,
        secrets,
      }),
  };
}

/**
 * Whether a request was rejected because of the thinking in it. Thinking has a signature of the preceding conversation, which may
 * have changed if another instance took over the answer
 * (platform.claude.com/docs/en/build-with-claude/preserved-thinking).
 */
const rejectsThinking = (errorText: string): boolean =>
  /`?signature`? in `?thinking|expected `?(?:redacted_)?thinking|thinking`?\W+blocks?\b|cannot contain `?thinking/i.test(
    errorText,
  );

/**
 * Creates an SDK client without logging or retries. The SDK reads `ANTHROPIC_CUSTOM_HEADERS` from the environment, so Parley's
 * commands remove that variable.
 */
export function createAnthropicClient(
  apiKey: string,
  baseUrl: string,
  fetch: NonNullable<ClientOptions["fetch"]>,
): Anthropic {
  return new Anthropic({
    apiKey,
    ...splitBaseUrl(baseUrl),
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
  const { status = null, headers = null, message } = error;
  return { status, headers, message: `${message}${cause}` };
}
