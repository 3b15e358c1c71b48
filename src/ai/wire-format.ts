/** The API that a provider implements: OpenAI's Responses, Anthropic's Messages, or Chat Completions. */
export type Api = "responses" | "messages" | "chat";
