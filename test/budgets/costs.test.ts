import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import type { BudgetUsage } from "../../src/modules/budgets/model.ts";
import type { Message } from "../../src/protocol/message.ts";
import { type Account, startApp, type TestApp } from "../support/app.ts";
import { createConversation } from "../support/conversation.ts";
import { type MockProvider, startMockProvider } from "../support/mock-provider/server.ts";
import { createTestDatabase } from "../support/postgres.ts";

const CLAUDE = "claude-sonnet-4-6";
const GPT = "gpt-5.2";

let provider: MockProvider;
let app: TestApp | null = null;

beforeAll(() => {
  provider = startMockProvider();
});
beforeEach(() => provider.reset());
afterEach(async () => {
  await app?.stop();
  await app?.database.end({ timeout: 1 });
  app = null;
});
afterAll(() => provider.stop());

/** Starts an instance and registers a user. */
async function startAppWithUser(models: string[], config: Record<string, string> = {}): Promise<[TestApp, Account]> {
  app = await startApp({
    database: await createTestDatabase(10),
    config: {
      OPENAI_API_KEY: "sk-test",
      OPENAI_BASE_URL: provider.openaiUrl,
      ANTHROPIC_API_KEY: "sk-ant-test",
      ANTHROPIC_BASE_URL: provider.anthropicUrl,
      AI_MODELS: models.join(","),
      AI_MAX_RETRIES: "0",
      ...config,
    },
  });
  return [app, await app.register()];
}

const formatEvents = (list: Record<string, unknown>[]): string =>
  list.map((data) => `event: ${data.type}\ndata: ${JSON.stringify(data)}\n\n`).join("");

/** Anthropic's counts: `input` excludes cached tokens. */
type ClaudeCounts = { input: number; written: number; read: number; output: number };

const createClaudeStartEvents = ({ input, written, read }: ClaudeCounts) => [
  {
    type: "message_start",
    message: {
      id: "msg_1",
      type: "message",
      role: "assistant",
      model: CLAUDE,
      content: [],
      stop_reason: null,
      stop_sequence: null,
      usage: {
        input_tokens: input,
        cache_creation_input_tokens: written,
        cache_read_input_tokens: read,
        cache_creation: { ephemeral_5m_input_tokens: written, ephemeral_1h_input_tokens: 0 },
        output_tokens: 1,
        service_tier: "standard",
      },
    },
  },
  { type: "content_block_start", index: 0, content_block: { type: "text", text: "" } },
  { type: "content_block_delta", index: 0, delta: { type: "text_delta", text: "An answer." } },
];

const createClaudeRecording = (counts: ClaudeCounts): string =>
  formatEvents([
    ...createClaudeStartEvents(counts),
    { type: "content_block_stop", index: 0 },
    {
      type: "message_delta",
      delta: { stop_reason: "end_turn", stop_sequence: null },
      usage: { output_tokens: counts.output },
    },
    { type: "message_stop" },
  ]);

/** OpenAI's counts: `input` includes cached tokens, and `output` includes reasoning. */
type GptCounts = { input: number; cached: number; output: number; reasoning: number };

const createGptRecording = ({ input, cached, output, reasoning }: GptCounts): string =>
  formatEvents([
    { type: "response.output_text.delta", item_id: "msg_1", output_index: 0, content_index: 0, delta: "An answer." },
    {
      type: "response.completed",
      response: {
        id: "resp_1",
        status: "completed",
        usage: {
          input_tokens: input,
          input_tokens_details: { cached_tokens: cached },
          output_tokens: output,
          output_tokens_details: { reasoning_tokens: reasoning },
          total_tokens: input + output,
        },
      },
    },
  ]);

// The published prices per million tokens: $3, $3.75, $0.30 and $15 for Claude; $1.75, $0.175 and $14 for GPT.
const computeClaudeCost = ({ input, written, read, output }: ClaudeCounts): number =>
  (input * 3 + written * 3.75 + read * 0.3 + output * 15) / 1_000_000;
const computeGptCost = ({ input, cached, output }: GptCounts): number =>
  ((input - cached) * 1.75 + cached * 0.175 + output * 14) / 1_000_000;

const sum = (numbers: number[]): number => numbers.reduce((total, number) => total + number, 0);

async function sendAndWait(parley: TestApp, account: Account, conversationId: string, model: string): Promise<Message> {
  const json = { content: "And what about this?", reply: true, model };
  const path = `/api/v1/conversations/${conversationId}/messages`;
  const response = await parley.fetch(path, { token: account.access_token, json });
  expect(response.status).toBe(201);
  const { reply } = (await response.json()) as { reply: Message };
  return waitUntilFinished(parley, account, `${path}/${reply.id}`);
}

async function waitUntilFinished(parley: TestApp, account: Account, path: string): Promise<Message> {
  for (let waits = 0; waits < 400; waits += 1) {
    const message = (await (await parley.fetch(path, { token: account.access_token })).json()) as Message;
    if (message.status !== "streaming") return message;
    await Bun.sleep(20);
  }
  throw new Error("The answer did not end in time.");
}

const fetchUsage = async (parley: TestApp, account: Account): Promise<BudgetUsage> =>
  (await parley.fetch("/api/v1/me/usage", { token: account.access_token })).json() as Promise<BudgetUsage>;

/** Fetches the values of a metric by their labels, such as `model="openai/one",kind="input"`. */
async function fetchMetric(parley: TestApp, name: string): Promise<Record<string, number>> {
  const text = await (await parley.fetch("/metrics")).text();
  const lines = [...text.matchAll(new RegExp(`^${name}\\{(.+)\\} (\\S+)$`, "gm"))];
  return Object.fromEntries(lines.map(([, labels = "", value]) => [labels, Number(value)]));
}

/** Adds up input and output tokens. Reasoning is part of the output. */
const sumTokens = (tokens: Record<string, number>): number =>
  sum(Object.entries(tokens).flatMap(([labels, value]) => (labels.includes('kind="reasoning"') ? [] : [value])));

describe("the cost of answers", () => {
  test("matches the provider's calculation for a conversation with cached prompts", async () => {
    const claudeCounts: ClaudeCounts[] = [
      { input: 21, written: 4_800, read: 0, output: 300 },
      { input: 50, written: 910, read: 4_800, output: 411 },
      { input: 12, written: 0, read: 5_710, output: 77 },
    ];
    const gptCounts: GptCounts[] = [
      { input: 5_000, cached: 0, output: 250, reasoning: 128 },
      { input: 5_433, cached: 4_992, output: 90, reasoning: 0 },
    ];
    provider.script(CLAUDE, ...claudeCounts.map((counts) => ({ recording: createClaudeRecording(counts) })));
    provider.script(GPT, ...gptCounts.map((counts) => ({ recording: createGptRecording(counts) })));
    const [parley, anna] = await startAppWithUser([`anthropic/${CLAUDE}`, `openai/${GPT}`]);
    const { id } = await createConversation(parley, anna);
    const costs: number[] = [];
    for (const counts of claudeCounts) {
      const { usage } = await sendAndWait(parley, anna, id, `anthropic/${CLAUDE}`);
      expect(usage).toMatchObject({
        input_tokens: counts.input + counts.written + counts.read,
        output_tokens: counts.output,
      });
      expect(usage?.cost_usd).toBeCloseTo(computeClaudeCost(counts), 8);
      costs.push(usage?.cost_usd ?? 0);
    }
    for (const counts of gptCounts) {
      const { usage } = await sendAndWait(parley, anna, id, `openai/${GPT}`);
      expect(usage).toMatchObject({ input_tokens: counts.input, output_tokens: counts.output });
      expect(usage?.cost_usd).toBeCloseTo(computeGptCost(counts), 8);
      costs.push(usage?.cost_usd ?? 0);
    }
    const claudeUsd = sum(claudeCounts.map(computeClaudeCost));
    const gptUsd = sum(gptCounts.map(computeGptCost));
    expect(sum(costs)).toBeCloseTo(claudeUsd + gptUsd, 7);
    const { day, month } = await fetchUsage(parley, anna);
    expect([day.spent_usd, month.spent_usd]).toEqual([
      expect.closeTo(claudeUsd + gptUsd, 7),
      expect.closeTo(claudeUsd + gptUsd, 7),
    ]);
    expect(await fetchMetric(parley, "parley_ai_cost_usd_total")).toEqual({
      [`model="anthropic/${CLAUDE}"`]: expect.closeTo(claudeUsd, 9),
      [`model="openai/${GPT}"`]: expect.closeTo(gptUsd, 9),
    });
    const tokens = await fetchMetric(parley, "parley_ai_tokens_total");
    expect(tokens).toEqual({
      [`model="anthropic/${CLAUDE}",kind="input"`]: sum(
        claudeCounts.map((counts) => counts.input + counts.written + counts.read),
      ),
      [`model="anthropic/${CLAUDE}",kind="output"`]: sum(claudeCounts.map(({ output }) => output)),
      [`model="openai/${GPT}",kind="input"`]: sum(gptCounts.map(({ input }) => input)),
      [`model="openai/${GPT}",kind="output"`]: sum(gptCounts.map(({ output }) => output)),
      [`model="openai/${GPT}",kind="reasoning"`]: sum(gptCounts.map(({ reasoning }) => reasoning)),
    });
    expect(day.spent_tokens).toBe(sumTokens(tokens));
  });

  test("includes failed attempts, even for OpenAI clients", async () => {
    const truncatedCounts = { input: 40, written: 2_000, read: 3_000, output: 0 };
    const completeCounts = { input: 6_000, cached: 5_000, output: 120, reasoning: 64 };
    provider.script(CLAUDE, { recording: formatEvents(createClaudeStartEvents(truncatedCounts)) });
    provider.script(GPT, { recording: createGptRecording(completeCounts) });
    const [parley, anna] = await startAppWithUser([`anthropic/${CLAUDE}`, `openai/${GPT}`]);
    const { id } = await createConversation(parley, anna);
    const { usage, model } = await sendAndWait(parley, anna, id, `anthropic/${CLAUDE}`);
    expect(model).toBe(`openai/${GPT}`);
    const response = await parley.fetch("/v1/chat/completions", {
      token: anna.access_token,
      json: { model: `anthropic/${CLAUDE}`, messages: [{ role: "user", content: "Why?" }] },
    });
    const completion = (await response.json()) as { usage: { prompt_tokens: number; completion_tokens: number } };
    expect(completion.usage.prompt_tokens).toBe(5_040 + 6_000);

    const tokens = await fetchMetric(parley, "parley_ai_tokens_total");
    const truncatedOutput = (tokens[`model="anthropic/${CLAUDE}",kind="output"`] ?? 0) / 2;
    expect(truncatedOutput).toBeGreaterThan(1);
    expect(tokens[`model="anthropic/${CLAUDE}",kind="input"`]).toBe(2 * 5_040);
    expect(usage).toMatchObject({ input_tokens: 5_040 + 6_000, output_tokens: truncatedOutput + 120 });
    expect(completion.usage.completion_tokens).toBe(truncatedOutput + 120);
    const cost = computeClaudeCost({ ...truncatedCounts, output: truncatedOutput }) + computeGptCost(completeCounts);
    expect(usage?.cost_usd).toBeCloseTo(cost, 8);
    const { day } = await fetchUsage(parley, anna);
    expect(day.spent_usd).toBeCloseTo(2 * cost, 7);
    expect(day.spent_tokens).toBe(sumTokens(tokens));
  });

  test("is reserved as if the whole prompt were written to the cache", async () => {
    const [parley, anna] = await startAppWithUser([`anthropic/${CLAUDE}`], {
      BUDGET_USER_USD_PER_DAY: "1",
      BUDGET_ANSWER_TOKENS: "100",
    });
    provider.script(CLAUDE, { text: "Short.", firstDelayMs: 1_000 });
    const { id } = await createConversation(parley, anna);
    const json = { content: "x".repeat(300), reply: true };
    await parley.fetch(`/api/v1/conversations/${id}/messages`, { token: anna.access_token, json });
    expect((await fetchUsage(parley, anna)).day.reserved_usd).toBeCloseTo((600 * 3.75 + 100 * 15) / 1_000_000, 8);
  });
});

describe("an answer that doesn't complete", () => {
  const formatLabels = (model: string, name: string) => `model="${model}",outcome="${name}"`;

  test("records the last model tried in its message and in the metrics", async () => {
    provider.script("one", { fault: "status", status: 500 });
    provider.script("two", { fault: "status", status: 500 });
    const [parley, anna] = await startAppWithUser(["openai/one", "anthropic/two"]);
    const { id } = await createConversation(parley, anna);
    expect(await sendAndWait(parley, anna, id, "openai/one")).toMatchObject({
      status: "failed",
      model: "anthropic/two",
    });
    const response = await parley.fetch("/v1/chat/completions", {
      token: anna.access_token,
      json: { model: "openai/one", messages: [{ role: "user", content: "Why?" }] },
    });
    expect(response.status).toBeGreaterThanOrEqual(400);
    expect(await fetchMetric(parley, "parley_generations_total")).toEqual({
      [formatLabels("anthropic/two", "failed")]: 2,
    });
    expect(await fetchMetric(parley, "parley_generation_duration_seconds_count")).toEqual({
      'model="anthropic/two"': 2,
    });
  });

  test("records the model that was generating it when it was cancelled", async () => {
    provider.script("one", { text: "never sent", firstDelayMs: 60_000 });
    const [parley, anna] = await startAppWithUser(["openai/one"]);
    const { id } = await createConversation(parley, anna);
    const path = `/api/v1/conversations/${id}/messages`;
    const json = { content: "And what about this?", reply: true };
    const response = await parley.fetch(path, { token: anna.access_token, json });
    const { reply } = (await response.json()) as { reply: Message };
    while (provider.listRequests("one").length === 0) await Bun.sleep(10);
    await parley.fetch(`${path}/${reply.id}/cancel`, { token: anna.access_token, method: "POST" });
    const message = await waitUntilFinished(parley, anna, `${path}/${reply.id}`);
    expect(message).toMatchObject({ status: "cancelled", model: "openai/one", usage: null });
    expect(await fetchMetric(parley, "parley_generations_total")).toEqual({
      [formatLabels("openai/one", "cancelled")]: 1,
    });
  });
});
