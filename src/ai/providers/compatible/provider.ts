import { type HeaderFields, listHeaderSecrets } from "../../../lib/header-fields.ts";
import { listAddressSecrets } from "../../../lib/mask-address.ts";
import type { FindProxy } from "../../../lib/outgoing/find-proxy.ts";
import { parseUserinfo } from "../../../lib/userinfo.ts";
import type { Provider } from "../../provider.ts";
import { createOpenAiClient, mapOpenAiError } from "../openai/provider.ts";
import { createParameterAdapter } from "../parameters/adapter.ts";
import type { RequestObserver } from "../request-observer.ts";
import { createBodySender } from "../sdk-request.ts";
import { streamAnswer } from "../stream-answer.ts";
import { rewriteAfterThinkingError } from "./chat-thinking.ts";
import { mapToChatRequest } from "./map-chat-completions.ts";
import { createChatMapper } from "./map-chunks.ts";

/** Passed to the SDK, which requires a key. It isn't sent, because the `Authorization` header is removed. */
const NO_KEY = "none";

/**
 * Creates the provider for a Chat Completions server, such as Ollama, vLLM, llama.cpp or a gateway. Without a key, the
 * `user:password@` in the URL is sent as basic authentication.
 * @param options.headers sent with every request. They override Parley's own headers.
 */
export function createCompatibleProvider(options: {
  name?: string;
  apiKey?: string | undefined;
  baseUrl: string;
  headers?: HeaderFields;
  observer?: RequestObserver;
  findProxy?: FindProxy;
}): Provider {
  const { name = "compatible", apiKey, headers = {}, observer = {}, findProxy } = options;
  const userinfo = parseUserinfo(options.baseUrl);
  const baseUrl = userinfo?.url ?? options.baseUrl;
  const authorizationHeader = apiKey === undefined ? { authorization: userinfo?.authorization ?? null } : {};
  const sendBody = createBodySender(
    (fetch) =>
      createOpenAiClient(apiKey ?? NO_KEY, baseUrl, fetch)
        .chat.completions.create(
          { model: "", messages: [], stream: true },
          { headers: { ...authorizationHeader, ...headers } },
        )
        .asResponse(),
    createParameterAdapter({ api: "chat", onParameterRejected: observer.onParameterRejected }),
    { onResend: observer.onResend, findProxy },
  );
  const secrets = [
    ...(apiKey === undefined ? [] : [apiKey]),
    ...listAddressSecrets(options.baseUrl),
    ...listHeaderSecrets(headers),
  ];
  return {
    name,
    api: "chat",
    stream: (request, push) =>
      streamAnswer(request, push, {
        send(onBytes) {
          const body = mapToChatRequest(request, name);
          const createBodyWithoutThinking = () => mapToChatRequest(request, name, true);
          return sendBody(body, request.signal, onBytes, (errorText) =>
            rewriteAfterThinkingError(body, errorText, createBodyWithoutThinking),
          );
        },
        createMapper: () => createChatMapper({ provider: name, model: request.model }),
        mapSdkError: mapOpenAiError,
        secrets,
      }),
  };
}
