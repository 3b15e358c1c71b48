import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import type { BudgetUsage } from "../../src/modules/budgets/model.ts";
import { type Account, startApp, type TestApp } from "../support/app.ts";
import { createConversation } from "../support/conversation.ts";
import { type MockProvider, startMockProvider } from "../support/mock-provider/server.ts";
import { createTestDatabase } from "../support/postgres.ts";
import { openSocket } from "../support/socket.ts";

/** Tokens that are reserved in addition to those for the text and the answer. */
const OVERHEAD_TOKENS = 500;
const CONTENT = "x".repeat(30);
const CONTENT_TOKENS = 10;
const ANSWER_TOKENS = 100;
/** Tokens that are reserved for a conversation's first answer. */
const RESERVED_TOKENS = OVERHEAD_TOKENS + CONTENT_TOKENS + ANSWER_TOKENS;

let provider: MockProvider;
let apps: TestApp[] = [];

beforeAll(() => {
  provider = startMockProvider();
});
beforeEach(() => provider.reset());
afterEach(() => stopInstances());
afterAll(() => provider.stop());

/** Starts instances with the same database. Returns the first one. */
async function startInstances(config: Record<string, string>, instanceCount = 1): Promise<TestApp> {
  const database = await createTestDatabase(10);
  const settings = {
    OPENAI_API_KEY: "sk-test",
    OPENAI_BASE_URL: provider.openaiUrl,
    AI_MODELS: "openai/one",
    AI_PRICES: "openai/one=100/1000",
    AI_MAX_RETRIES: "0",
    BUDGET_ANSWER_TOKENS: String(ANSWER_TOKENS),
    ...config,
  };
  apps = [];
  for (let index = 0; index < instanceCount; index += 1) apps.push(await startApp({ database, config: settings }));
  return apps[0] as TestApp;
}

async function stopInstances(): Promise<void> {
  for (const app of apps) await app.stop();
  await apps[0]?.database.end({ timeout: 1 });
  apps = [];
}

const sendMessage = (app: TestApp, account: Account, conversationId: string, json: object = {}) =>
  app.fetch(`/api/v1/conversations/${conversationId}/messages`, {
    token: account.access_token,
    json: { content: CONTENT, reply: true, ...json },
  });

const fetchUsage = async (app: TestApp, account: Account): Promise<BudgetUsage> =>
  (await app.fetch("/api/v1/me/usage", { token: account.access_token })).json() as Promise<BudgetUsage>;

async function waitUntilIdle(app: TestApp): Promise<void> {
  for (let waits = 0; waits < 400; waits += 1) {
    const [row] = await app.database<{ count: number }[]>`
      select count(*)::int as count from generations where status <> 'finished'`;
    if (row?.count === 0) return;
    await Bun.sleep(25);
  }
  throw new Error("Answers are still running.");
}

const createConversations = (app: TestApp, account: Account, count: number) =>
  Promise.all(Array.from({ length: count }, async () => (await createConversation(app, account)).id));

describe("a budget", () => {
  test.each([1, 2])(
    "allows only 100 of 200 concurrent messages if it covers 100 answers, and leaves no reservation (instances: %p)",
    async (instanceCount) => {
      provider.script("one", { text: "Short.", firstDelayMs: 2_000 });
      const parley = await startInstances({ BUDGET_USER_TOKENS_PER_DAY: String(100 * RESERVED_TOKENS) }, instanceCount);
      const anna = await parley.register();
      const ids = await createConversations(parley, anna, 200);
      const responses = await Promise.all(
        ids.map((id, index) => sendMessage(apps[index % instanceCount] ?? parley, anna, id)),
      );
      const statuses = responses.map(({ status }) => status);
      expect(statuses.filter((status) => status === 201)).toHaveLength(100);
      expect(statuses.filter((status) => status === 429)).toHaveLength(100);
      const usageDuringAnswers = await fetchUsage(parley, anna);
      expect(usageDuringAnswers.day.spent_tokens + usageDuringAnswers.day.reserved_tokens).toBe(100 * RESERVED_TOKENS);
      await waitUntilIdle(parley);
      expect(provider.listRequests("one")).toHaveLength(100);
      const [storedUsage] = await parley.database<{ messages: number; tokens: number; usd: number }[]>`
        select count(*)::int as messages, sum(input_tokens + output_tokens)::int as tokens, sum(cost_usd)::float as usd
        from messages`;
      expect(storedUsage?.messages).toBe(200);
      const { day, month } = await fetchUsage(parley, anna);
      expect(day).toMatchObject({ spent_tokens: storedUsage?.tokens, reserved_tokens: 0, reserved_usd: 0 });
      expect(month).toMatchObject({ spent_tokens: storedUsage?.tokens, reserved_tokens: 0, reserved_usd: 0 });
      expect(day.spent_usd).toBeCloseTo(storedUsage?.usd ?? -1, 6);
      expect(day.spent_tokens).toBeLessThanOrEqual(100 * RESERVED_TOKENS);
      expect(await parley.database`select 1 from budget_reservations`).toHaveLength(0);
    },
    30_000,
  );

  test("applies to one conversation's messages that are committed together", async () => {
    provider.script("one", { text: "Short.", firstDelayMs: 1_500 });
    const limitTokens = 60_000;
    const parley = await startInstances({ BUDGET_USER_TOKENS_PER_DAY: String(limitTokens) });
    const anna = await parley.register();
    const { id: conversation_id } = await createConversation(parley, anna);
    const socket = await openSocket(parley.url, { token: anna.access_token });
    const pendingFrames = Array.from({ length: 200 }, (_, n) =>
      socket.request({
        type: "message.send",
        conversation_id,
        content: CONTENT,
        client_message_id: `${n}`,
        reply: true,
      }),
    );
    const outcomes = await Promise.all(pendingFrames);
    const rejectedFrames = outcomes.filter(({ type }) => type === "error");
    const acceptedFrames = outcomes.filter(({ type }) => type === "ack");
    expect(rejectedFrames[0]).toMatchObject({ code: "budget_exceeded", temporary: true });
    expect(Number(rejectedFrames[0]?.retry_after_ms)).toBeGreaterThan(0);
    const { day } = await fetchUsage(parley, anna);
    expect(day.spent_tokens + day.reserved_tokens).toBeLessThanOrEqual(limitTokens);
    // Rejected messages leave no gap in the sequence numbers.
    const [row] = await parley.database<{ last_seq: number; messages: number }[]>`
      select last_seq, (select count(*)::int from messages) as messages from conversations where id = ${conversation_id}`;
    expect(row).toEqual({ last_seq: acceptedFrames.length * 2, messages: acceptedFrames.length * 2 });
    await waitUntilIdle(parley);
    expect((await fetchUsage(parley, anna)).day.reserved_tokens).toBe(0);
    await socket.close();
  }, 20_000);

  test("reserves tokens for the schema of a new or regenerated answer", async () => {
    provider.script("one", { text: "{}", firstDelayMs: 2_000 });
    const reply_format = { schema: { type: "object", description: "d".repeat(6_000) } };
    const parley = await startInstances({ BUDGET_USER_TOKENS_PER_DAY: String(100 * RESERVED_TOKENS) });
    const anna = await parley.register();
    const { id } = await createConversation(parley, anna);
    const fetchReserved = async () => (await fetchUsage(parley, anna)).day.reserved_tokens;
    const response = await sendMessage(parley, anna, id, { reply_format });
    const { message } = (await response.json()) as { message: { id: string } };
    expect(await fetchReserved()).toBeGreaterThan(RESERVED_TOKENS + 2_000);
    await waitUntilIdle(parley);
    const path = `/api/v1/conversations/${id}/messages/${message.id}/regenerate`;
    expect((await parley.fetch(path, { token: anna.access_token, json: {} })).status).toBe(201);
    expect(await fetchReserved()).toBeGreaterThan(RESERVED_TOKENS + 2_000);
    await waitUntilIdle(parley);
    expect(await fetchReserved()).toBe(0);
  });

  test("rejects only its user's requests until the next window if it is used up", async () => {
    const parley = await startInstances({ BUDGET_USER_TOKENS_PER_DAY: "700", BUDGET_USER_TOKENS_PER_MONTH: "5000" });
    const [anna, ben] = await Promise.all([parley.register(), parley.register()]);
    const { id } = await createConversation(parley, anna, [ben]);
    const firstResponse = await sendMessage(parley, anna, id, { client_message_id: "same" });
    expect(firstResponse.status).toBe(201);
    await waitUntilIdle(parley);
    const { message, reply } = (await firstResponse.json()) as { message: { id: string }; reply: { id: string } };
    await parley.database`update budget_windows set spent_tokens = 690 where period = 'day'`;
    const [conversationBefore] = await parley.database<
      { last_seq: number }[]
    >`select last_seq from conversations where id = ${id}`;
    const regeneratePath = `/api/v1/conversations/${id}/messages/${reply.id}/regenerate`;
    const streamOptions = { token: anna.access_token, headers: { accept: "text/event-stream" } };
    const rejections = [
      await sendMessage(parley, anna, id),
      await parley.fetch(`/api/v1/conversations/${id}/messages`, {
        ...streamOptions,
        json: { content: CONTENT, reply: true },
      }),
      await parley.fetch(regeneratePath, { token: anna.access_token, json: {} }),
      await parley.fetch(regeneratePath, { ...streamOptions, json: {} }),
    ];
    const { day } = await fetchUsage(parley, anna);
    const remainingSeconds = (Date.parse(day.ends_at) - Date.now()) / 1000;
    for (const rejection of rejections) {
      expect(rejection.status).toBe(429);
      expect(rejection.headers.get("content-type")).toBe("application/problem+json");
      expect(Math.abs(Number(rejection.headers.get("retry-after")) - remainingSeconds)).toBeLessThan(5);
      expect(await rejection.json()).toMatchObject({
        type: "/problems/budget_exceeded",
        code: "budget_exceeded",
        status: 429,
      });
    }
    const [conversationAfter] = await parley.database<
      { last_seq: number }[]
    >`select last_seq from conversations where id = ${id}`;
    expect(conversationAfter?.last_seq).toBe(conversationBefore?.last_seq ?? 0);

    // Messages without a reply and repeated requests still work.
    expect((await sendMessage(parley, anna, id, { reply: false })).status).toBe(201);
    const repeatedResponse = await sendMessage(parley, anna, id, { client_message_id: "same" });
    expect(repeatedResponse.status).toBe(201);
    expect(((await repeatedResponse.json()) as { message: { id: string } }).message.id).toBe(message.id);
    // Every user has a separate budget.
    const benConversation = await createConversation(parley, ben);
    expect((await sendMessage(parley, ben, benConversation.id)).status).toBe(201);
    expect((await fetchUsage(parley, ben)).day.spent_tokens).toBeLessThan(690);
    expect((await parley.fetch("/api/v1/me/usage")).status).toBe(401);
    await waitUntilIdle(parley);
    const text = await (await parley.fetch("/metrics")).text();
    expect(text).toMatch(/parley_budget_rejections_total\{period="day"\} 4/);
    expect(text).toMatch(/parley_ai_cost_usd_total\{model="openai\/one"\} 0\.\d/);
    expect(text).toContain('parley_ai_model_available{model="openai/one"} 1');
  }, 20_000);

  test("is charged at the model's price if it is in US dollars", async () => {
    // 510 input tokens at $100, 100 output tokens at $1,000 per million: $0.151 reserved.
    const parley = await startInstances({ BUDGET_USER_USD_PER_MONTH: "0.31", BUDGET_USER_USD_PER_DAY: "1" });
    provider.script("one", { text: "Short.", firstDelayMs: 500 });
    const anna = await parley.register();
    const ids = await createConversations(parley, anna, 3);
    const statuses = (await Promise.all(ids.map((id) => sendMessage(parley, anna, id)))).map(({ status }) => status);
    expect(statuses.sort()).toEqual([201, 201, 429]);
    const { month } = await fetchUsage(parley, anna);
    expect(month).toMatchObject({ limit_usd: 0.31, limit_tokens: null });
    expect(month.reserved_usd).toBeCloseTo(0.302, 6);
    await waitUntilIdle(parley);
    const usageAfter = await fetchUsage(parley, anna);
    const [storedUsage] = await parley.database<{ usd: number }[]>`select sum(cost_usd)::float as usd from messages`;
    expect(usageAfter.month.spent_usd).toBeCloseTo(storedUsage?.usd ?? -1, 6);
    expect(usageAfter.month.reserved_usd).toBe(0);
    await parley.database`update budget_windows set spent_usd = 0.3 where period = 'month'`;
    const rejectedResponse = await sendMessage(parley, anna, ids[0] ?? "");
    const remainingSeconds = (Date.parse(usageAfter.month.ends_at) - Date.now()) / 1000;
    expect(Math.abs(Number(rejectedResponse.headers.get("retry-after")) - remainingSeconds)).toBeLessThan(5);
  }, 20_000);

  test("keeps no reservation for failed answers and deleted conversations", async () => {
    const parley = await startInstances({ BUDGET_USER_TOKENS_PER_DAY: "100000" });
    const anna = await parley.register();
    const [failingId = "", deletedId = ""] = await createConversations(parley, anna, 2);
    provider.script("one", { fault: "status", status: 500 });
    await sendMessage(parley, anna, failingId);
    await waitUntilIdle(parley);
    expect((await fetchUsage(parley, anna)).day).toMatchObject({ spent_tokens: 0, reserved_tokens: 0 });
    expect(provider.requests.at(-1)?.body.max_output_tokens).toBe(ANSWER_TOKENS);

    provider.script("one", { pieces: Array.from({ length: 20 }, () => "word "), pieceDelayMs: 30 });
    await sendMessage(parley, anna, deletedId);
    await Bun.sleep(150);
    const deletionResponse = await parley.fetch(`/api/v1/conversations/${deletedId}`, {
      method: "DELETE",
      token: anna.access_token,
    });
    expect(deletionResponse.status).toBe(204);
    // The sweep releases the reservation within 10 s, unless the answer notices the deletion first.
    for (let waits = 0; waits < 480; waits += 1) {
      if ((await fetchUsage(parley, anna)).day.reserved_tokens === 0) break;
      await Bun.sleep(25);
    }
    const { day } = await fetchUsage(parley, anna);
    expect(day.reserved_tokens).toBe(0);
    expect(day.spent_tokens).toBeGreaterThan(0);
  }, 20_000);

  test("never applies to the offline model", async () => {
    const parley = await startInstances({
      AI_MODELS: "offline/documents,openai/one",
      BUDGET_USER_TOKENS_PER_DAY: "101",
    });
    const anna = await parley.register();
    const { id } = await createConversation(parley, anna);
    for (let n = 0; n < 3; n += 1) expect((await sendMessage(parley, anna, id)).status).toBe(201);
    expect((await sendMessage(parley, anna, id, { model: "openai/one" })).status).toBe(429);
    await waitUntilIdle(parley);
    expect((await fetchUsage(parley, anna)).day).toMatchObject({
      spent_tokens: 0,
      reserved_tokens: 0,
      limit_tokens: 101,
    });
  }, 20_000);

  test("doesn't limit anything if it isn't set, but usage is still recorded", async () => {
    const parley = await startInstances({});
    const anna = await parley.register();
    const { id } = await createConversation(parley, anna);
    await sendMessage(parley, anna, id);
    await waitUntilIdle(parley);
    const { day } = await fetchUsage(parley, anna);
    expect(day).toMatchObject({ limit_tokens: null, limit_usd: null, reserved_tokens: 0 });
    expect(day.spent_tokens).toBeGreaterThan(0);
    expect(day.spent_usd).toBeGreaterThan(0);
    expect(provider.requests.at(-1)?.body.max_output_tokens).toBeUndefined();
  }, 20_000);
});
