import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { hasPrice } from "../../src/commands/load-config.ts";
import { ConfigError, loadConfig } from "../../src/config.ts";
import type { BudgetUsage } from "../../src/modules/budgets/model.ts";
import { type Account, startApp, type TestApp } from "../support/app.ts";
import { createConversation } from "../support/conversation.ts";
import { type MockProvider, startMockProvider } from "../support/mock-provider/server.ts";
import { createTestDatabase } from "../support/postgres.ts";
import { openSocket } from "../support/socket.ts";
import { createKey, registerAdmin } from "./create-key.ts";

const CONTENT = "x".repeat(30);
const ANSWER_TOKENS = 100;
/** The tokens reserved for a conversation's first answer: a fixed overhead, the message and the longest answer. */
const RESERVED_TOKENS = 500 + 10 + ANSWER_TOKENS;
const scopes = ["messages:write", "chat:completions"];

let provider: MockProvider;
let apps: TestApp[] = [];
beforeAll(() => {
  provider = startMockProvider();
});
beforeEach(() => provider.reset());
afterEach(async () => {
  for (const app of apps) await app.stop();
  await apps[0]?.database.end({ timeout: 1 });
  apps = [];
});
afterAll(() => provider.stop());

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
  for (let index = 0; index < instanceCount; index += 1) apps.push(await startApp({ database, config: settings }));
  return apps[0] as TestApp;
}

const sendMessage = (app: TestApp, token: string, conversationId: string, headers: Record<string, string> = {}) =>
  app.fetch(`/api/v1/conversations/${conversationId}/messages`, {
    token,
    headers,
    json: { content: CONTENT, reply: true },
  });
const requestCompletion = (app: TestApp, token: string) =>
  app.fetch("/v1/chat/completions", {
    token,
    json: { model: "openai/one", messages: [{ role: "user", content: CONTENT }] },
  });
const fetchUsage = async (app: TestApp, token: string): Promise<BudgetUsage> =>
  (await app.fetch("/api/v1/me/usage", { token })).json() as Promise<BudgetUsage>;
const createConversations = (app: TestApp, owner: Account, count: number) =>
  Promise.all(Array.from({ length: count }, async () => (await createConversation(app, owner)).id));
const countEqual = <T>(values: T[], value: T) => values.filter((candidate) => candidate === value).length;

async function waitUntilIdle(app: TestApp): Promise<void> {
  for (let waits = 0; waits < 400; waits += 1) {
    const rows = await app.database`
      select 1 from generations where status <> 'finished' union all select 1 from budget_reservations`;
    if (rows.length === 0) return;
    await Bun.sleep(25);
  }
  throw new Error("Some answers are still running or have reservations.");
}

describe("a key's budget", () => {
  test.each([1, 2])(
    "allows only 20 of 40 concurrent messages if it covers 20 answers, without affecting sessions or other keys (instances: %p)",
    async (instanceCount) => {
      provider.script("one", { text: "Short.", firstDelayMs: 1_500 });
      const parley = await startInstances({ BUDGET_KEY_TOKENS_PER_DAY: String(20 * RESERVED_TOKENS) }, instanceCount);
      const anna = await parley.register();
      const [firstKey, secondKey] = [
        await createKey(parley, anna, { scopes }),
        await createKey(parley, anna, { scopes }),
      ];
      const ids = await createConversations(parley, anna, 42);
      const pendingResponses = ids
        .slice(2)
        .map((id, n) => sendMessage(apps[n % instanceCount] ?? parley, firstKey.key, id));
      const responses = await Promise.all(pendingResponses);
      expect(
        countEqual(
          responses.map(({ status }) => status),
          201,
        ),
      ).toBe(20);
      const rejectedResponse = responses.find(({ status }) => status === 429);
      expect(await rejectedResponse?.json()).toMatchObject({ code: "budget_exceeded" });
      const usageDuringAnswers = await fetchUsage(parley, firstKey.key);
      expect(usageDuringAnswers.api_key?.day).toMatchObject({
        reserved_tokens: 20 * RESERVED_TOKENS,
        limit_tokens: 20 * RESERVED_TOKENS,
      });
      expect(usageDuringAnswers.day).toMatchObject({ reserved_tokens: 20 * RESERVED_TOKENS, limit_tokens: null });
      expect((await sendMessage(parley, secondKey.key, ids[0] ?? "")).status).toBe(201);
      expect((await sendMessage(parley, anna.access_token, ids[1] ?? "")).status).toBe(201);
      await waitUntilIdle(parley);
      const [firstUsage, secondUsage] = [
        await fetchUsage(parley, firstKey.key),
        await fetchUsage(parley, secondKey.key),
      ];
      const [storedUsage] = await parley.database<{ tokens: number; usd: number }[]>`
        select sum(input_tokens + output_tokens)::int as tokens, sum(cost_usd)::float as usd from messages`;
      const tokensPerAnswer = (storedUsage?.tokens ?? 0) / 22;
      expect(firstUsage.api_key?.day).toMatchObject({
        spent_tokens: 20 * tokensPerAnswer,
        reserved_tokens: 0,
        reserved_usd: 0,
      });
      expect(secondUsage.api_key?.day).toMatchObject({ spent_tokens: tokensPerAnswer, reserved_tokens: 0 });
      expect(firstUsage.day).toMatchObject({ spent_tokens: storedUsage?.tokens, reserved_tokens: 0, reserved_usd: 0 });
      expect(firstUsage.day.spent_usd).toBeCloseTo(storedUsage?.usd ?? -1, 6);
      expect((await fetchUsage(parley, anna.access_token)).api_key).toBeNull();
    },
    30_000,
  );

  test("applies together with the user's budget, and a request rejected by one budget reserves nothing in the other", async () => {
    provider.script("one", { text: "Short.", firstDelayMs: 1_000 });
    const parley = await startInstances({
      BUDGET_KEY_TOKENS_PER_DAY: String(3 * RESERVED_TOKENS),
      BUDGET_USER_TOKENS_PER_MONTH: String(5 * RESERVED_TOKENS),
    });
    const anna = await parley.register();
    const keys = await Promise.all([1, 2, 3].map(() => createKey(parley, anna, { scopes })));
    const ids = await createConversations(parley, anna, 12);
    const pendingResponses = ids.map((id, n) => sendMessage(parley, keys[n % 3]?.key ?? "", id));
    const statuses = (await Promise.all(pendingResponses)).map(({ status }) => status);
    expect(countEqual(statuses, 201)).toBe(5);
    const rows = await parley.database<{ scope: string; reserved: number }[]>`
      select scope, sum(reserved_tokens)::int as reserved from budget_windows where period = 'day' group by 1 order by 1`;
    expect([...rows]).toEqual([
      { scope: "key", reserved: 5 * RESERVED_TOKENS },
      { scope: "user", reserved: 5 * RESERVED_TOKENS },
    ]);
    expect(await parley.database`select 1 from budget_reservations`).toHaveLength(10);
    await waitUntilIdle(parley);
  }, 20_000);

  test("applies within a batch of frames that are committed together", async () => {
    provider.script("one", { text: "Short.", firstDelayMs: 1_000 });
    const limitTokens = 20_000;
    const parley = await startInstances({ BUDGET_KEY_TOKENS_PER_DAY: String(limitTokens) });
    const anna = await parley.register();
    const { key } = await createKey(parley, anna, { scopes });
    const { id: conversation_id } = await createConversation(parley, anna);
    const socket = await openSocket(parley.url, { token: key });
    const pendingFrames = Array.from({ length: 60 }, (_, n) =>
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
    expect(rejectedFrames.length).toBeGreaterThan(0);
    expect(rejectedFrames.every(({ code }) => code === "budget_exceeded")).toBe(true);
    const { api_key } = await fetchUsage(parley, key);
    const usedTokens = (api_key?.day.spent_tokens ?? 0) + (api_key?.day.reserved_tokens ?? 0);
    expect(usedTokens).toBeLessThanOrEqual(limitTokens);
    expect(usedTokens).toBeGreaterThan(limitTokens - 2 * RESERVED_TOKENS);
    await waitUntilIdle(parley);
    await socket.close();
  }, 20_000);

  test("applies to completions and regenerated answers, in tokens and in US dollars", async () => {
    // $0.151 per answer: 510 input tokens at $100, 100 output tokens at $1,000 per million.
    const parley = await startInstances({ BUDGET_KEY_USD_PER_MONTH: "0.5", BUDGET_KEY_TOKENS_PER_MONTH: "100000" });
    provider.script("one", { text: "Short." });
    const anna = await parley.register();
    const { id: keyId, key } = await createKey(parley, anna, { scopes });
    const [id = ""] = await createConversations(parley, anna, 1);
    const { reply } = (await (await sendMessage(parley, key, id)).json()) as { reply: { id: string } };
    await waitUntilIdle(parley);
    expect((await requestCompletion(parley, key)).status).toBe(200);
    await waitUntilIdle(parley);
    const usage = await fetchUsage(parley, key);
    expect(usage.api_key?.month).toMatchObject({
      spent_tokens: usage.month.spent_tokens,
      spent_usd: usage.month.spent_usd,
      limit_usd: 0.5,
      limit_tokens: 100_000,
    });
    expect(usage.month.spent_usd).toBeGreaterThan(0);
    await parley.database`update budget_windows set spent_usd = 0.4 where scope = 'key' and period = 'month'`;
    const regeneratePath = `/api/v1/conversations/${id}/messages/${reply.id}/regenerate`;
    expect((await parley.fetch(regeneratePath, { token: key, json: {} })).status).toBe(429);
    expect((await requestCompletion(parley, key)).status).toBe(429);
    expect((await requestCompletion(parley, anna.access_token)).status).toBe(200);
    expect((await parley.fetch(regeneratePath, { token: anna.access_token, json: {} })).status).toBe(201);
    await waitUntilIdle(parley);
    expect(await parley.database`select 1 from budget_windows where scope_id = ${keyId}`).toHaveLength(2);
  }, 20_000);

  test("includes a service key's requests on behalf of many users, without deadlocks", async () => {
    provider.script("one", { text: "Short.", firstDelayMs: 500 });
    const parley = await startInstances(
      {
        BUDGET_KEY_TOKENS_PER_DAY: String(12 * RESERVED_TOKENS),
        BUDGET_USER_TOKENS_PER_DAY: String(8 * RESERVED_TOKENS),
      },
      2,
    );
    const root = await registerAdmin(parley);
    const keys = await Promise.all([1, 2].map(() => createKey(parley, root, { scopes, service: true })));
    const users = await Promise.all([1, 2, 3].map(() => parley.register()));
    const conversationIdsByUser = await Promise.all(users.map((user) => createConversations(parley, user, 20)));
    const pendingResponses = conversationIdsByUser.flatMap((ids, userIndex) =>
      ids.map((id, index) =>
        sendMessage(apps[index % 2] ?? parley, keys[(userIndex + index) % 2]?.key ?? "", id, {
          "x-on-behalf-of": users[userIndex]?.user.id ?? "",
        }),
      ),
    );
    const statuses = (await Promise.all(pendingResponses)).map(({ status }) => status);
    // Either limit allows 24 answers: two keys with 12 each, or three users with 8 each. Fewer may be accepted, because a request
    // that one budget rejects briefly holds a reservation in the other.
    expect(countEqual(statuses, 201) + countEqual(statuses, 429)).toBe(60);
    expect(countEqual(statuses, 201)).toBeGreaterThanOrEqual(12);
    const windows = await parley.database<{ scope: string; reserved: number }[]>`
      select scope, (reserved_tokens + spent_tokens)::int as reserved from budget_windows where period = 'day'`;
    for (const { scope, reserved } of windows)
      expect(reserved).toBeLessThanOrEqual((scope === "key" ? 12 : 8) * RESERVED_TOKENS);
    await waitUntilIdle(parley);
    const sumsByScope = await parley.database<{ scope: string; spent: number; reserved: number }[]>`
      select scope, sum(spent_tokens)::int as spent, sum(reserved_tokens)::int as reserved
      from budget_windows where period = 'day' group by 1 order by 1`;
    expect(sumsByScope.map(({ reserved }) => reserved)).toEqual([0, 0]);
    expect(sumsByScope[0]?.spent).toBe(sumsByScope[1]?.spent ?? -1);
  }, 30_000);

  test("is deleted with the key", async () => {
    const parley = await startInstances({ BUDGET_KEY_TOKENS_PER_DAY: "10000" });
    const anna = await parley.register();
    const { id: keyId, key } = await createKey(parley, anna, { scopes });
    expect((await requestCompletion(parley, key)).status).toBe(200);
    await waitUntilIdle(parley);
    const listWindows = () =>
      parley.database`select 1 from budget_windows where scope_id in (${keyId}, ${anna.user.id})`;
    expect(await listWindows()).toHaveLength(4);
    await parley.fetch(`/api/v1/api-keys/${keyId}`, { method: "DELETE", token: anna.access_token });
    expect(await listWindows()).toHaveLength(2);
  });
});

test.each([
  [{ BUDGET_KEY_TOKENS_PER_DAY: "4096" }, "BUDGET_KEY_TOKENS_PER_DAY: too small for any answer"],
  [
    { BUDGET_KEY_USD_PER_MONTH: "1", AI_MODELS: "compatible/own", COMPATIBLE_BASE_URL: "http://127.0.0.1:1/v1" },
    "AI_PRICES",
  ],
])("settings %j are rejected", (environment, problem) => {
  const loadTestConfig = () => loadConfig(environment as Record<string, string>, () => "", undefined, hasPrice);
  expect(loadTestConfig).toThrow(ConfigError);
  expect(loadTestConfig).toThrow(problem);
});
