/** How a provider is spoken to: OpenAI's Responses, Anthropic's Messages, or Chat Completions. */
export type Api = "responses" | "messages" | "chat";
