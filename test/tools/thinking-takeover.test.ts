import { afterAll, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import type { Message } from "../../src/protocol/message.ts";
import { type Account, startApp, type TestApp } from "../support/app.ts";
import { createConversation } from "../support/conversation.ts";
import { type MockProvider, startMockProvider } from "../support/mock-provider/server.ts";
import type { ThinkingFormat } from "../support/mock-provider/thinking.ts";
import { createTestDatabase } from "../support/postgres.ts";
import { waitUntil } from "../support/wait-until.ts";

let provider: MockProvider;
let firstApp: TestApp;
let secondApp: TestApp;
let anna: Account;

const createConfig = (overrides: Record<string, string> = {}) => ({
  OPENAI_API_KEY: "sk-test",
  OPENAI_BASE_URL: provider.openaiUrl,
  ANTHROPIC_API_KEY: "sk-ant-test",
  ANTHROPIC_BASE_URL: provider.anthropicUrl,
  COMPATIBLE_BASE_URL: provider.openaiUrl,
  AI_MODELS: "openai/one,anthropic/two,compatible/three",
  AI_MAX_RETRIES: "0",
  ...overrides,
});

let testDatabase: Awaited<ReturnType<typeof createTestDatabase>>;
beforeAll(async () => {
  provider = startMockProvider();
  testDatabase = await createTestDatabase(10);
  firstApp = await startApp({ database: testDatabase, config: createConfig() });
  secondApp = await startApp({ database: testDatabase, config: createConfig() });
  anna = await firstApp.register();
});
beforeEach(() => provider.reset());
afterAll(async () => {
  await firstApp.stop();
  await secondApp.stop();
  await provider.stop();
  await firstApp.database.end({ timeout: 1 });
});

const call = { name: "search_documents", arguments: '{"query":"how to connect a model"}' };

/** Starts an answer, and waits until its second step is running. */
async function startAnswer(
  model: string,
  thinkingFormat: ThinkingFormat,
  parley = firstApp,
  user = anna,
): Promise<Message> {
  provider.script(
    model.split("/")[1] ?? "",
    { text: "Let me look. ", toolCalls: [call, call], thinkingFormat },
    // This step runs until its instance has lost the lease.
    { pieces: Array.from({ length: 2_000 }, (_, n) => `lost${n} `), pieceDelayMs: 20, thinkingFormat },
    { text: "Found it.", thinkingFormat },
  );
  const { id } = await createConversation(parley, user, [], { title: "Tools", tools: true, model });
  const sendResponse = await parley.fetch(`/api/v1/conversations/${id}/messages`, {
    token: user.access_token,
    json: { content: "Look it up.", reply: true },
  });
  const { reply } = (await sendResponse.json()) as { reply: Message };
  await waitUntil(async () => {
    const [row] = await firstApp.database`select 1 from current_messages
      where id = ${reply.id} and content like '%lost1 %'`;
    return row !== undefined;
  });
  return reply;
}

const expireLease = (reply: Message) => firstApp.database`
  update generations set owner = gen_random_uuid(), lease_until = now() - interval '1 s' where message_id = ${reply.id}`;

type FinishedAnswer = { content: string; status: string; model: string };

/** Waits until an answer is finished, and returns it as stored. */
async function waitUntilFinished({ id }: Message): Promise<FinishedAnswer | undefined> {
  const readAnswer = () =>
    firstApp.database<FinishedAnswer[]>`select content, status, model from messages where id = ${id}`;
  await waitUntil(async () => (await readAnswer())[0]?.status !== "streaming", 30_000);
  return (await readAnswer())[0];
}

const listStoredThinking = () =>
  firstApp.database<{ step: number; data: Buffer }[]>`select step, data from generation_thinking`;

describe("a takeover during a tool loop", () => {
  test.each([
    ["anthropic/two", "signed"],
    ["openai/one", "encrypted"],
    ["compatible/three", "plain"],
    ["compatible/three", "signature"],
  ] as const)(
    "restores the thinking of %s (%s), which is stored encrypted",
    async (model, thinkingFormat) => {
      const reply = await startAnswer(model, thinkingFormat);
      const storedThinking = await listStoredThinking();
      expect(storedThinking.map(({ step }) => step)).toEqual([1]);
      const storedText = storedThinking.map(({ data }) => data.toString("latin1")).join();
      for (const word of ["Thought", "signed", "encrypted", "thinking", model.split("/")[0] ?? ""])
        expect(storedText).not.toContain(word);
      // Members can read only the text of the thinking, as reasoning.
      const response = await firstApp.fetch(`/api/v1/conversations/${reply.conversation_id}/messages`, {
        token: anna.access_token,
      });
      expect(await response.text()).not.toMatch(/signed|encrypted|redacted/);
      await expireLease(reply);
      expect(await waitUntilFinished(reply)).toEqual({ content: "Let me look. Found it.", status: "complete", model });
      expect(provider.thinkingErrors).toEqual([]);
      expect(JSON.stringify(provider.requests.at(-1)?.body)).toContain(`${model.split("/")[1]} `);
      expect(await listStoredThinking()).toHaveLength(0);
    },
    60_000,
  );

  test("ignores the stored thinking and continues the answer if JWT_SECRET has changed", async () => {
    const previousApp = await startApp({
      database: testDatabase,
      config: createConfig({ JWT_SECRET: "the previous secret: 0123456789 0123456789" }),
    });
    const reply = await startAnswer("compatible/three", "plain", previousApp, await previousApp.register());
    // Hands the answer over to the other instances, which have a different secret.
    await previousApp.stop();
    expect(await waitUntilFinished(reply)).toMatchObject({
      content: "Let me look. Found it.",
      model: "compatible/three",
    });
    // The model rejects calls without its thinking, so the request is retried with a placeholder.
    expect(provider.thinkingErrors).toHaveLength(1);
    expect(JSON.stringify(provider.requests.at(-1)?.body)).not.toContain("Thought three");
  }, 60_000);
});
