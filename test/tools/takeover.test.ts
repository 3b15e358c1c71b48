import { afterAll, beforeAll, expect, test } from "bun:test";
import type { Message } from "../../src/protocol/message.ts";
import { whileLocked } from "../locks/row-locks.ts";
import { type Account, startApp, type TestApp } from "../support/app.ts";
import { createConversation } from "../support/conversation.ts";
import { type MockProvider, startMockProvider } from "../support/mock-provider/server.ts";
import { createTestDatabase } from "../support/postgres.ts";

let provider: MockProvider;
let first: TestApp;
let second: TestApp;
let anna: Account;

beforeAll(async () => {
  provider = startMockProvider();
  const shared = await createTestDatabase(10);
  const options = {
    database: shared,
    config: { COMPATIBLE_BASE_URL: provider.openaiUrl, AI_MODELS: "compatible/one", AI_MAX_RETRIES: "0" },
  };
  first = await startApp(options);
  second = await startApp(options);
  anna = await first.register();
});
afterAll(async () => {
  await first.stop();
  await second.stop();
  await provider.stop();
  await first.database.end({ timeout: 1 });
});

async function waitUntil(check: () => Promise<boolean>, waitMs: number): Promise<void> {
  const deadlineMs = performance.now() + waitMs;
  while (!(await check())) {
    if (performance.now() > deadlineMs) throw new Error(`Timed out after ${waitMs} ms.`);
    await Bun.sleep(50);
  }
}

test("an answer whose instance crashed continues after its stored tool results", async () => {
  const call = { name: "search_documents", arguments: '{"query":"how to connect a model"}' };
  provider.script(
    "one",
    { thinking: ["Where is it?"], text: "Let me look. ", toolCalls: [call] },
    // The second step is running when its instance crashes.
    {
      thinking: ["Lost."],
      pieces: Array.from({ length: 200 }, (_, n) => `lost${n} `),
      pieceDelayMs: 20,
    },
    { thinking: ["There."], text: "Found it." },
  );
  const { id } = await createConversation(first, anna, [], { title: "Tools", tools: true });
  const sent = await first.fetch(`/api/v1/conversations/${id}/messages`, {
    token: anna.access_token,
    json: { content: "Look it up.", reply: true },
  });
  const { reply } = (await sent.json()) as { reply: Message };
  const listMessages = async () => {
    const response = await second.fetch(`/api/v1/conversations/${id}/messages`, { token: anna.access_token });
    return ((await response.json()) as { data: Message[] }).data;
  };
  const readStoredText = async () => {
    const [row] = await first.database<
      { content: string }[]
    >`select content from current_messages where id = ${reply.id}`;
    return row?.content ?? "";
  };
  await waitUntil(async () => (await readStoredText()).includes("lost1 "), 5_000);
  await first.database`
    update generations set owner = gen_random_uuid(), lease_until = now() - interval '1 s' where message_id = ${reply.id}`;
  const isComplete = async () => (await listMessages()).find(({ id }) => id === reply.id)?.status === "complete";
  await waitUntil(isComplete, 12_000);
  const messages = await listMessages();
  expect(messages.map(({ role }) => role)).toEqual(["user", "assistant", "tool"]);
  expect(messages[1]).toMatchObject({
    content: "Let me look. Found it.",
    reasoning: "Where is it?\n\nThere.",
    finish_reason: "stop",
  });
  expect(messages[2]?.metadata).toMatchObject({
    offset: "Let me look. ".length,
    reasoning_offset: "Where is it?".length,
  });
  const lastBody = provider.requests.at(-1)?.body.messages as {
    role: string;
    content: string | null;
    tool_calls?: unknown[];
  }[];
  expect(lastBody.filter(({ role }) => role !== "system").map(({ role }) => role)).toEqual([
    "user",
    "assistant",
    "tool",
  ]);
  expect(lastBody.at(-2)).toMatchObject({ content: "Let me look. ", tool_calls: [{ function: call }] });
  expect(lastBody.at(-1)?.content).toBe(messages[2]?.content ?? "");
  expect(JSON.stringify(lastBody)).not.toContain("lost");
}, 25_000);

test("an answer released while a tool result can't be stored is charged for its usage", async () => {
  const shared = await createTestDatabase(10);
  const other = await startApp({
    database: shared,
    config: { COMPATIBLE_BASE_URL: provider.openaiUrl, AI_MODELS: "compatible/two", AI_MAX_RETRIES: "0" },
  });
  const ben = await other.register();
  provider.script("two", {
    text: "Let me look. ",
    // At this point, the conversation is locked.
    firstDelayMs: 400,
    toolCalls: [{ name: "search_documents", arguments: '{"query":"x"}' }],
  });
  const { id } = await createConversation(other, ben, [], { title: "Tools", tools: true });
  await other.fetch(`/api/v1/conversations/${id}/messages`, {
    token: ben.access_token,
    json: { content: "Look it up.", reply: true },
  });
  await whileLocked(shared.database, "select 1 from conversations where id = $1 for update", [id], async () => {
    await waitUntil(async () => provider.listRequests("two").length === 1, 2_000);
    await Bun.sleep(900);
    await other.stop();
  });
  const readSpentTokens = async () => {
    const [row] = await shared.database<{ spent: number }[]>`
      select spent_tokens as spent from budget_windows where scope_id = ${ben.user.id} and period = 'day'`;
    return row?.spent ?? 0;
  };
  expect(provider.listRequests("two")).toHaveLength(1);
  await waitUntil(async () => (await readSpentTokens()) > 0, 3_000);
  await shared.database.end({ timeout: 1 });
}, 20_000);
