import { afterAll, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import type { Message } from "../../src/protocol/message.ts";
import { type Account, startApp, type TestApp } from "../support/app.ts";
import { createConversation } from "../support/conversation.ts";
import { type MockProvider, startMockProvider } from "../support/mock-provider/server.ts";
import type { ThinkingFormat } from "../support/mock-provider/thoughts.ts";
import { createTestDatabase } from "../support/postgres.ts";
import { waitUntil } from "../support/wait-until.ts";

let provider: MockProvider;
let first: TestApp;
let second: TestApp;
let anna: Account;

const configure = (more: Record<string, string> = {}) => ({
  OPENAI_API_KEY: "sk-test",
  OPENAI_BASE_URL: provider.openaiUrl,
  ANTHROPIC_API_KEY: "sk-ant-test",
  ANTHROPIC_BASE_URL: provider.anthropicUrl,
  COMPATIBLE_BASE_URL: provider.openaiUrl,
  AI_MODELS: "openai/one,anthropic/two,compatible/three",
  AI_MAX_RETRIES: "0",
  ...more,
});

let shared: Awaited<ReturnType<typeof createTestDatabase>>;
beforeAll(async () => {
  provider = startMockProvider();
  shared = await createTestDatabase(10);
  first = await startApp({ database: shared, config: configure() });
  second = await startApp({ database: shared, config: configure() });
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
async function begin(model: string, thought: ThinkingFormat, parley = first, user = anna): Promise<Message> {
  provider.script(
    model.split("/")[1] ?? "",
    { text: "Let me look. ", toolCalls: [call, call], thought },
    // It runs until its instance has lost the lease.
    { pieces: Array.from({ length: 2_000 }, (_, n) => `gone-with-it${n} `), pieceDelayMs: 20, thought },
    { text: "Found it.", thought },
  );
  const { id } = await createConversation(parley, user, [], { title: "Tools", tools: true, model });
  const sent = await parley.fetch(`/api/v1/conversations/${id}/messages`, {
    token: user.access_token,
    json: { content: "Look it up.", reply: true },
  });
  const { reply } = (await sent.json()) as { reply: Message };
  await waitUntil(async () => {
    const [row] = await first.database`select 1 from current_messages
      where id = ${reply.id} and content like '%gone-with-it1 %'`;
    return row !== undefined;
  });
  return reply;
}

const takeAway = (reply: Message) => first.database`
  update generations set owner = gen_random_uuid(), lease_until = now() - interval '1 s' where message_id = ${reply.id}`;

type End = { content: string; status: string; model: string };

/** The answer as stored at its end. */
async function readEnd({ id }: Message): Promise<End | undefined> {
  const read = () => first.database<End[]>`select content, status, model from messages where id = ${id}`;
  await waitUntil(async () => (await read())[0]?.status !== "streaming", 30_000);
  return (await read())[0];
}

const listKept = () => first.database<{ step: number; data: Buffer }[]>`select step, data from generation_thinking`;

describe("a takeover in mid-loop", () => {
  test.each([
    ["anthropic/two", "signed"],
    ["openai/one", "encrypted"],
    ["compatible/three", "plain"],
    ["compatible/three", "signature"],
  ] as const)(
    "%s, %s: the thinking is taken over too, encrypted until then",
    async (model, thought) => {
      const reply = await begin(model, thought);
      const kept = await listKept();
      expect(kept.map(({ step }) => step)).toEqual([1]);
      const plain = kept.map(({ data }) => data.toString("latin1")).join();
      for (const word of ["Thought", "signed", "encrypted", "thinking", model.split("/")[0] ?? ""])
        expect(plain).not.toContain(word);
      // It isn't in what members read either: they see the text as reasoning, and the rest is private.
      const answers = await first.fetch(`/api/v1/conversations/${reply.conversation_id}/messages`, {
        token: anna.access_token,
      });
      expect(await answers.text()).not.toMatch(/signed|encrypted|redacted/);
      await takeAway(reply);
      expect(await readEnd(reply)).toEqual({ content: "Let me look. Found it.", status: "complete", model });
      expect(provider.refusals).toEqual([]);
      expect(JSON.stringify(provider.requests.at(-1)?.body)).toContain(`${model.split("/")[1]} `);
      expect(await listKept()).toHaveLength(0);
    },
    60_000,
  );

  test("after a change of JWT_SECRET the stored thinking is ignored, and the answer continues", async () => {
    const before = await startApp({
      database: shared,
      config: configure({ JWT_SECRET: "the secret of before: 0123456789 0123456789" }),
    });
    const reply = await begin("compatible/three", "plain", before, await before.register());
    // It leaves the answer to the others, which have a different secret.
    await before.stop();
    expect(await readEnd(reply)).toMatchObject({ content: "Let me look. Found it.", model: "compatible/three" });
    // The model rejects its calls without its thinking, and is retried with a placeholder.
    expect(provider.refusals).toHaveLength(1);
    expect(JSON.stringify(provider.requests.at(-1)?.body)).not.toContain("Thought three");
  }, 60_000);
});
