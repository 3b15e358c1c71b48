import OpenAI, { APIError, type ClientOptions } from "openai";
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
import { mapToResponsesRequest } from "./map-responses.ts";
import { createResponsesMapper } from "./read-responses.ts";

const NAME = "openai";
export const OPENAI_BASE_URL_DEFAULT = "https://api.openai.com/v1";

/**
 * Creates the provider for OpenAI's Responses API.
 * @param options.headers sent with every request. They override Parley's own headers.
 */
export function createOpenAiProvider(options: {
  apiKey: string;
  baseUrl?: string | undefined;
  headers?: HeaderFields;
  observer?: RequestObserver;
  findProxy?: FindProxy;
}): Provider {
  const { apiKey, baseUrl = OPENAI_BASE_URL_DEFAULT, headers = {}, observer = {}, findProxy } = options;
  const sendBody = createBodySender(
    (fetch) =>
      createOpenAiClient(apiKey, baseUrl, fetch)
        .responses.create({ input: [], stream: true }, { headers })
        .asResponse(),
    createParameterAdapter({ api: "responses", onParameterRejected: observer.onParameterRejected }),
    { onResend: observer.onResend, findProxy },
  );
  const secrets = [apiKey, ...listAddressSecrets(baseUrl), ...listHeaderSecrets(headers)];
  return {
    name: NAME,
    api: "responses",
    stream: (request, push) =>
      streamAnswer(request, push, {
        send: (onBytes) =>
          sendBody(mapToResponsesRequest(request, NAME), request.signal, onBytes, (errorText) =>
            rejectsThinking(errorText) ? mapToResponsesRequest(request, NAME, true) : null,
          ),
        createMapper: () => createResponsesMapper({ provider: NAME, model: request.model }),
        mapSdkError: mapOpenAiError,
        secrets,
      }),
  };
}

/** Whether a request was rejected because of its reasoning items, which can expire or belong to a different account. */
const rejectsThinking = (errorText: string): boolean =>
  /encrypted content (?:for|of|could)|invalid_encrypted_content|reasoning' (?:item|was)|'?rs_\w+|type 'reasoning'/i.test(
    errorText,
  );

/**
 * Creates an SDK client without logging or retries. The SDK reads `OPENAI_CUSTOM_HEADERS` from the environment and would send
 * these headers to every server, so Parley's commands remove that variable.
 */
export function createOpenAiClient(
  apiKey: string,
  baseUrl: string,
  fetch: NonNullable<ClientOptions["fetch"]>,
): OpenAI {
  return new OpenAI({
    apiKey,
    ...splitBaseUrl(baseUrl),
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

/** Maps an error from the `openai` SDK. Returns null for other errors. */
export function mapOpenAiError(error: unknown): HttpFailure | null {
  if (!(error instanceof APIError)) return null;
  const cause = error.cause instanceof Error ? ` (${error.cause.message})` : "";
  const code = error.code ? ` [${error.code}]` : "";
  const { status = null, headers = null, message } = error;
  return { status, headers, message: `${message}${code}${cause}` };
}
