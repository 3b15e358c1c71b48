import { type HeaderFields, listHeaderSecrets } from "../../../lib/header-fields.ts";
import { listAddressSecrets } from "../../../lib/mask-address.ts";
import type { FindProxy } from "../../../lib/outgoing/find-proxy.ts";
import { readUserinfo } from "../../../lib/userinfo.ts";
import type { Provider } from "../../provider.ts";
import { createOpenAiClient, mapOpenAiError } from "../openai/provider.ts";
import { createParameterAdapter } from "../parameters/adapter.ts";
import type { RequestObserver } from "../request-observer.ts";
import { createSendBody } from "../sdk-request.ts";
import { streamAnswer } from "../stream-answer.ts";
import { rewriteAfterRefusal } from "./chat-thinking.ts";
import { mapToChatRequest } from "./map-chat-completions.ts";
import { createChatMapper } from "./map-chunks.ts";

/** The SDK requires a key; servers without keys get no `Authorization` header. */
const NO_KEY = "none";

/**
 * Any Chat Completions server at `baseUrl`: Ollama, vLLM, llama.cpp, a gateway. If there is no key, a `user:password@` in
 * its address is sent as basic authentication.
 * @param options.headers are sent with every request and override Parley's own.
 */
export function createCompatibleProvider(options: {
  name?: string;
  apiKey?: string | undefined;
  baseUrl: string;
  headers?: HeaderFields;
  observe?: RequestObserver;
  findProxy?: FindProxy;
}): Provider {
  const { name = "compatible", apiKey, headers = {}, observe = {}, findProxy } = options;
  const userinfo = readUserinfo(options.baseUrl);
  const baseUrl = userinfo?.url ?? options.baseUrl;
  const withoutKey = apiKey === undefined ? { authorization: userinfo?.authorization ?? null } : {};
  const sendBody = createSendBody(
    (fetch) =>
      createOpenAiClient(apiKey ?? NO_KEY, baseUrl, fetch)
        .chat.completions.create({ model: "", messages: [], stream: true }, { headers: { ...withoutKey, ...headers } })
        .asResponse(),
    createParameterAdapter({ api: "chat", onLearned: observe.onLearned }),
    { onRepeat: observe.onRepeat, findProxy },
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
          const forget = () => mapToChatRequest(request, name, true);
          return sendBody(body, request.signal, onBytes, (refusal) => rewriteAfterRefusal(body, refusal, forget));
        },
        createMapper: () => createChatMapper({ provider: name, model: request.model }),
        mapSdkError: mapOpenAiError,
        secrets,
      }),
  };
}
