import type { Message } from "../../src/protocol/message.ts";
import { type Account, startApp, type TestApp } from "../support/app.ts";
import { createConversation } from "../support/conversation.ts";
import { type MockProvider, startMockProvider } from "../support/mock-provider/server.ts";

export type ToolApp = {
  parley: TestApp;
  provider: MockProvider;
  createConversation(account: Account, members: Account[], tools: boolean | string[]): Promise<string>;
  /** Sends in a conversation, waits for the end of the answer, and returns it with the results of its calls. */
  ask(account: Account, conversationId: string, more?: object): Promise<Message[]>;
  /** Names of the tools last offered to the model. */
  offered(): string[];
  stop(): Promise<void>;
};

/** Parley with MCP servers and one model. */
export async function startWithMcp(config: Record<string, string>): Promise<ToolApp> {
  const provider = startMockProvider();
  const parley = await startApp({
    config: { COMPATIBLE_BASE_URL: provider.openaiUrl, AI_MODELS: "compatible/one,compatible/two", ...config },
  });
  return {
    parley,
    provider,
    createConversation: async (account, members, tools) =>
      (await createConversation(parley, account, members, { title: "Tools", tools })).id,
    async ask(account, conversationId, more = {}) {
      const path = `/api/v1/conversations/${conversationId}/messages`;
      const token = account.access_token;
      const headers = { accept: "text/event-stream" };
      const response = await parley.fetch(path, { token, json: { content: "Look.", reply: true, ...more }, headers });
      const created = (await response.text()).split("\n").find((line) => line.startsWith("data: ")) ?? "data: {}";
      const { seq, data: question } = JSON.parse(created.slice(6)) as { seq: number; data: Message };
      const page = await parley.fetch(`${path}?after_seq=${seq}`, { token });
      const { data } = (await page.json()) as { data: Message[] };
      const answer = data.find(({ role, parent_id }) => role === "assistant" && parent_id === question.id);
      const results = data.filter(({ role, parent_id }) => role === "tool" && parent_id === answer?.id);
      return answer ? [answer, ...results] : [];
    },
    offered: () =>
      ((provider.requests.at(-1)?.body.tools ?? []) as { function: { name: string } }[]).map(
        (tool) => tool.function.name,
      ),
    async stop() {
      await parley.stop();
      await provider.stop();
    },
  };
}
