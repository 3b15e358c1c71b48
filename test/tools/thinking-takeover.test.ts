import { afterAll, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import type { Message } from "../../src/protocol/message.ts";
import { type Account, startApp, type TestApp } from "../support/app.ts";
import { createConversation } from "../support/conversation.ts";
import { type MockProvider, startMockProvider } from "../support/mock-provider/server.ts";
import type { ThinkingFormat } from "../support/mock-provider/thinking.ts";
import { createTestDatabase } from "../support/postgres.ts";
import { waitUntil } from "../support/wait-until.ts";

let provider: MockProvider;
let first: TestApp;
let second: TestApp;
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

let shared: Awaited<ReturnType<typeof createTestDatabase>>;
beforeAll(async () => {
  provider = startMockProvider();
  shared = await createTestDatabase(10);
  first = await startApp({ database: shared, config: createConfig() });
  second = await startApp({ database: shared, config: createConfig() });
  anna = await first.register();
});
beforeEach(() => provider.reset());
afterAll(async () => {
  await first.stop();
  await second.stop();
  await provider.stop();
  await first.database.end({ timeout: 1 });
});

const call = { name: "search_documents", arguments: '{"query":"how to connect a model"}' };

/** Starts an answer, and waits until its second step is running. */
async function startAnswer(
  model: string,
  thinkingFormat: ThinkingFormat,
  parley = first,
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
  const sent = await parley.fetch(`/api/v1/conversations/${id}/messages`, {
    token: user.access_token,
    json: { content: "Look it up.", reply: true },
  });
  const { reply } = (await sent.json()) as { reply: Message };
  await waitUntil(async () => {
    const [row] = await first.database`select 1 from current_messages
      where id = ${reply.id} and content like '%lost1 %'`;
    return row !== undefined;
  });
  return reply;
}

const expireLease = (reply: Message) => first.database`
  update generations set owner = gen_random_uuid(), lease_until = now() - interval '1 s' where message_id = ${reply.id}`;

type End = { content: string; status: string; model: string };

/** Waits for the end of an answer, and returns it as stored. */
async function waitForEnd({ id }: Message): Promise<End | undefined> {
  const read = () => first.database<End[]>`select content, status, model from messages where id = ${id}`;
  await waitUntil(async () => (await read())[0]?.status !== "streaming", 30_000);
  return (await read())[0];
}

const listStoredThinking = () =>
  first.database<{ step: number; data: Buffer }[]>`select step, data from generation_thinking`;

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
      const stored = await listStoredThinking();
      expect(stored.map(({ step }) => step)).toEqual([1]);
      const storedText = stored.map(({ data }) => data.toString("latin1")).join();
      for (const word of ["Thought", "signed", "encrypted", "thinking", model.split("/")[0] ?? ""])
        expect(storedText).not.toContain(word);
      // Members can read only the text of the thinking, as reasoning.
      const response = await first.fetch(`/api/v1/conversations/${reply.conversation_id}/messages`, {
        token: anna.access_token,
      });
      expect(await response.text()).not.toMatch(/signed|encrypted|redacted/);
      await expireLease(reply);
      expect(await waitForEnd(reply)).toEqual({ content: "Let me look. Found it.", status: "complete", model });
      expect(provider.refusals).toEqual([]);
      expect(JSON.stringify(provider.requests.at(-1)?.body)).toContain(`${model.split("/")[1]} `);
      expect(await listStoredThinking()).toHaveLength(0);
    },
    60_000,
  );

  test("after JWT_SECRET was changed ignores the stored thinking, and continues the answer", async () => {
    const previous = await startApp({
      database: shared,
      config: createConfig({ JWT_SECRET: "the previous secret: 0123456789 0123456789" }),
    });
    const reply = await startAnswer("compatible/three", "plain", previous, await previous.register());
    // Hands the answer over to the other instances, which have a different secret.
    await previous.stop();
    expect(await waitForEnd(reply)).toMatchObject({ content: "Let me look. Found it.", model: "compatible/three" });
    // The model rejects calls without its thinking, so the request is retried with a placeholder.
    expect(provider.refusals).toHaveLength(1);
    expect(JSON.stringify(provider.requests.at(-1)?.body)).not.toContain("Thought three");
  }, 60_000);
});
