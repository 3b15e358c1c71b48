import type { Provider } from "../../provider.ts";
import { createOpenAiClient, mapOpenAiError } from "../openai/provider.ts";
import { createSendBody } from "../sdk-request.ts";
import { streamAnswer } from "../stream-answer.ts";
import { createChatMapper, mapToChatRequest } from "./map-chat-completions.ts";

/** The SDK wants a key; servers without keys get no `Authorization` at all. */
const NO_KEY = "none";

/** Any server that speaks Chat Completions at `baseUrl`: Ollama, vLLM, llama.cpp, a gateway. */
export function createCompatibleProvider(options: { apiKey?: string | undefined; baseUrl: string }): Provider {
  const { apiKey, baseUrl } = options;
  const headers = apiKey === undefined ? { Authorization: null } : {};
  const sendBody = createSendBody((fetch) =>
    createOpenAiClient(apiKey ?? NO_KEY, baseUrl, fetch)
      .chat.completions.create({ model: "", messages: [], stream: true }, { headers })
      .asResponse(),
  );
  return {
    name: "compatible",
    stream: (request, push) =>
      streamAnswer(request, push, {
        send: () => sendBody(mapToChatRequest(request), request.signal),
        mapper: createChatMapper(),
        mapSdkError: mapOpenAiError,
        secrets: apiKey === undefined ? [] : [apiKey],
      }),
  };
}
