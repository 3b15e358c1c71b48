import { afterAll, beforeAll, expect, test } from "bun:test";
import type { Message } from "../../src/protocol/message.ts";
import { whileLocked } from "../locks/row-locks.ts";
import { type Account, startApp, type TestApp } from "../support/app.ts";
import { createConversation } from "../support/conversation.ts";
import { type MockProvider, startMockProvider } from "../support/mock-provider/server.ts";
import { createTestDatabase } from "../support/postgres.ts";
import { waitUntil } from "../support/wait-until.ts";

let provider: MockProvider;
let firstApp: TestApp;
let secondApp: TestApp;
let anna: Account;

beforeAll(async () => {
  provider = startMockProvider();
  const testDatabase = await createTestDatabase(10);
  const options = {
    database: testDatabase,
    config: { COMPATIBLE_BASE_URL: provider.openaiUrl, AI_MODELS: "compatible/one", AI_MAX_RETRIES: "0" },
  };
  firstApp = await startApp(options);
  secondApp = await startApp(options);
  anna = await firstApp.register();
});
afterAll(async () => {
  await firstApp.stop();
  await secondApp.stop();
  await provider.stop();
  await firstApp.database.end({ timeout: 1 });
});

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
  const { id } = await createConversation(firstApp, anna, [], { title: "Tools", tools: true });
  const sendResponse = await firstApp.fetch(`/api/v1/conversations/${id}/messages`, {
    token: anna.access_token,
    json: { content: "Look it up.", reply: true },
  });
  const { reply } = (await sendResponse.json()) as { reply: Message };
  const listMessages = async () => {
    const response = await secondApp.fetch(`/api/v1/conversations/${id}/messages`, { token: anna.access_token });
    return ((await response.json()) as { data: Message[] }).data;
  };
  const readStoredText = async () => {
    const [row] = await firstApp.database<
      { content: string }[]
    >`select content from current_messages where id = ${reply.id}`;
    return row?.content ?? "";
  };
  await waitUntil(async () => (await readStoredText()).includes("lost1 "), 5_000);
  await firstApp.database`
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

test("an answer that is released at shutdown is charged for its usage, even if a tool result can't be stored", async () => {
  const testDatabase = await createTestDatabase(10);
  const stoppingApp = await startApp({
    database: testDatabase,
    config: { COMPATIBLE_BASE_URL: provider.openaiUrl, AI_MODELS: "compatible/two", AI_MAX_RETRIES: "0" },
  });
  const ben = await stoppingApp.register();
  provider.script("two", {
    text: "Let me look. ",
    // This delay gives the test time to lock the conversation.
    firstDelayMs: 400,
    toolCalls: [{ name: "search_documents", arguments: '{"query":"x"}' }],
  });
  const { id } = await createConversation(stoppingApp, ben, [], { title: "Tools", tools: true });
  await stoppingApp.fetch(`/api/v1/conversations/${id}/messages`, {
    token: ben.access_token,
    json: { content: "Look it up.", reply: true },
  });
  await whileLocked(testDatabase.database, "select 1 from conversations where id = $1 for update", [id], async () => {
    await waitUntil(async () => provider.listRequests("two").length === 1, 2_000);
    await Bun.sleep(900);
    await stoppingApp.stop();
  });
  const readSpentTokens = async () => {
    const [row] = await testDatabase.database<{ spent: number }[]>`
      select spent_tokens as spent from budget_windows where scope_id = ${ben.user.id} and period = 'day'`;
    return row?.spent ?? 0;
  };
  expect(provider.listRequests("two")).toHaveLength(1);
  await waitUntil(async () => (await readSpentTokens()) > 0, 3_000);
  await testDatabase.database.end({ timeout: 1 });
}, 20_000);
