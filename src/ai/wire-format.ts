/** The protocol of a provider: OpenAI's Responses, Anthropic's Messages, or Chat Completions. */
export type Api = "responses" | "messages" | "chat";
