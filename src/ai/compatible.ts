import { createChatMapper, mapToChatRequest } from "./map-chat-completions.ts";
import { createOpenAiClient, mapOpenAiError } from "./openai.ts";
import type { Provider } from "./provider.ts";
import { streamAnswer } from "./stream-answer.ts";

/** The SDK wants a key; servers without keys get no `Authorization` at all. */
const NO_KEY = "none";

/** Any server that speaks Chat Completions at `baseUrl`: Ollama, vLLM, llama.cpp, a gateway. */
export function createCompatibleProvider(options: { apiKey?: string | undefined; baseUrl: string }): Provider {
  const client = createOpenAiClient(options.apiKey ?? NO_KEY, options.baseUrl);
  const headers = options.apiKey === undefined ? { Authorization: null } : {};
  return {
    name: "compatible",
    stream: (request) =>
      streamAnswer({
        signal: request.signal,
        send: () =>
          client.chat.completions.create(mapToChatRequest(request), { signal: request.signal, headers }).asResponse(),
        mapper: createChatMapper(),
        mapSdkError: mapOpenAiError,
        secrets: options.apiKey === undefined ? [] : [options.apiKey],
      }),
  };
}
