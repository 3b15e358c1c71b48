import type { Message } from "../../src/protocol/message.ts";
import { type Account, startApp, type TestApp } from "../support/app.ts";
import { createConversation } from "../support/conversation.ts";
import { type MockProvider, startMockProvider } from "../support/mock-provider/server.ts";

export type ToolApp = {
  parley: TestApp;
  provider: MockProvider;
  createConversation(account: Account, members: Account[], tools: boolean | string[]): Promise<string>;
  /** Sends a message, waits until the answer is finished, and returns the answer with its tool results. */
  requestAnswer(account: Account, conversationId: string, fields?: object): Promise<Message[]>;
  /** Lists the names of the tools in the last request to a model. */
  listOfferedTools(): string[];
  stop(): Promise<void>;
};

/** Starts Parley with MCP servers and two models. */
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
    async requestAnswer(account, conversationId, fields = {}) {
      const path = `/api/v1/conversations/${conversationId}/messages`;
      const token = account.access_token;
      const headers = { accept: "text/event-stream" };
      const response = await parley.fetch(path, { token, json: { content: "Look.", reply: true, ...fields }, headers });
      const createdLine = (await response.text()).split("\n").find((line) => line.startsWith("data: ")) ?? "data: {}";
      const { seq, data: question } = JSON.parse(createdLine.slice(6)) as { seq: number; data: Message };
      const page = await parley.fetch(`${path}?after_seq=${seq}`, { token });
      const { data } = (await page.json()) as { data: Message[] };
      const answer = data.find(({ role, parent_id }) => role === "assistant" && parent_id === question.id);
      const results = data.filter(({ role, parent_id }) => role === "tool" && parent_id === answer?.id);
      return answer ? [answer, ...results] : [];
    },
    listOfferedTools: () =>
      ((provider.requests.at(-1)?.body.tools ?? []) as { function: { name: string } }[]).map(
        (tool) => tool.function.name,
      ),
    async stop() {
      await parley.stop();
      await provider.stop();
    },
  };
}
