import { afterAll, beforeAll, beforeEach, expect, test } from "bun:test";
import { withTransaction } from "../../src/db/client.ts";
import { createAuditService } from "../../src/modules/audit/service.ts";
import { createPasswordHasher } from "../../src/modules/users/passwords.ts";
import { createUserService } from "../../src/modules/users/service.ts";
import { TEST_PASSWORD } from "../support/app.ts";
import { createConversation } from "../support/conversation.ts";
import { type MockProvider, startMockProvider } from "../support/mock-provider/server.ts";
import type { RestClient } from "../support/rest.ts";
import { createWebhook, startWebhooks, type WebhookApp } from "./start-webhooks.ts";

/** An answer reserves 500 tokens plus its maximum, so each budget is enough for one answer, but not for two. */
const BUDGETS = {
  BUDGET_ANSWER_TOKENS: "100",
  BUDGET_USER_TOKENS_PER_DAY: "3000",
  BUDGET_KEY_TOKENS_PER_MONTH: "2000",
};

let provider: MockProvider;
let webhooks: WebhookApp;
let root: RestClient;
beforeAll(async () => {
  provider = startMockProvider();
  webhooks = await startWebhooks({
    OPENAI_API_KEY: "sk-test",
    OPENAI_BASE_URL: provider.openaiUrl,
    AI_MODELS: "openai/one",
    AI_PRICES: "openai/one=100/1000",
    AI_MAX_RETRIES: "0",
    ...BUDGETS,
  });
  root = await webhooks.registerAdmin();
});
beforeEach(() => provider.reset());
afterAll(async () => {
  await webhooks.stop();
  await provider.stop();
});

type ReceivedEvent = {
  type: string;
  user_id: string | null;
  conversation_id: string | null;
  data: Record<string, unknown> | null;
};

/** Expands the outbox, and lists all events for a webhook. The server expands the outbox at the same time. */
async function expandAndListEvents(webhookId: string): Promise<ReceivedEvent[]> {
  const { database } = webhooks.parley;
  for (;;) {
    await database`select expand_webhook_outbox(100)`;
    const [{ count } = { count: 1 }] = await database<
      { count: number }[]
    >`select count(*)::int as count from webhook_outbox`;
    if (count === 0) break;
    await Bun.sleep(10);
  }
  return database<ReceivedEvent[]>`
    select type, user_id, conversation_id, data from webhook_deliveries where webhook_id = ${webhookId} order by n`;
}

/** Waits until a webhook has received an event. */
async function waitForEvents(webhookId: string): Promise<ReceivedEvent[]> {
  for (;;) {
    const received = await expandAndListEvents(webhookId);
    if (received.length > 0) return received;
    await Bun.sleep(10);
  }
}

const sendMessage = (rest: RestClient, conversationId: string) =>
  rest.request("POST", `/conversations/${conversationId}/messages`, { content: "Hello?", reply: true });

test("only administrators are notified of each new user, however the account was created", async () => {
  const { database } = webhooks.parley;
  const ben = await webhooks.register();
  const rootsWebhook = await createWebhook(root, { events: ["user.created"] });
  const bensWebhook = await createWebhook(ben, { events: ["user.created", "user.deleted"] });
  const registeredUser = await webhooks.register();
  const { body: createdUser } = await root.request<{ id: string }>("POST", "/users", {
    email: "created@example.com",
    password: "a long password 1",
    role: "user",
  });
  const passwords = createPasswordHasher({ memoryKib: 64, iterations: 1 });
  const users = createUserService({ database, audit: createAuditService(), passwords });
  const { user: administrator } = await users.createAdministrator("administrator@example.com", "a long password 1");
  const passwordlessUser = await withTransaction(database, (sql) =>
    users.createPasswordlessUser(sql, { email: "passwordless@example.com", name: "Passwordless" }),
  );
  // A second account with the same email is rejected, and no notification is sent for a transaction that is rolled back.
  expect(
    (await root.request("POST", "/users", { email: "created@example.com", password: "a long password 1" })).status,
  ).toBe(409);
  const failingTransaction = withTransaction(database, async (sql) => {
    await users.createPasswordlessUser(sql, { email: "undone@example.com", name: null });
    throw new Error("rolled back");
  });
  await expect(failingTransaction).rejects.toThrow("rolled back");
  const received = await expandAndListEvents(rootsWebhook.id);
  expect(received.map(({ type, user_id }) => [type, user_id])).toEqual(
    [registeredUser.id, createdUser.id, administrator.id, passwordlessUser?.id].map((id) => ["user.created", id ?? ""]),
  );
  expect(await expandAndListEvents(bensWebhook.id)).toEqual([]);
});

test("administrators are notified of each deleted user, whoever deleted the account", async () => {
  const [anna, ben] = [await webhooks.register(), await webhooks.register()];
  const rootsWebhook = await createWebhook(root, { events: ["user.deleted"] });
  const annasWebhook = await createWebhook(anna, { events: ["*"] });
  const response = await anna.request("DELETE", "/me", { current_password: "wrong" });
  expect(response.status).toBeGreaterThanOrEqual(400);
  expect(await expandAndListEvents(rootsWebhook.id)).toEqual([]);
  expect((await anna.request("DELETE", "/me", { current_password: TEST_PASSWORD })).status).toBe(204);
  expect((await root.request("DELETE", `/users/${ben.id}`)).status).toBe(204);
  expect((await expandAndListEvents(rootsWebhook.id)).map(({ type, data }) => [type, data])).toEqual([
    ["user.deleted", { id: anna.id }],
    ["user.deleted", { id: ben.id }],
  ]);
  expect(await expandAndListEvents(annasWebhook.id)).toEqual([]);
});

test("members are notified of a failed generation and its error, but outsiders aren't", async () => {
  const [anna, ben] = [await webhooks.register(), await webhooks.register()];
  const { id } = await createConversation(webhooks.parley, anna.account);
  const [annasWebhook, bensWebhook, rootsWebhook] = await Promise.all(
    [anna, ben, root].map((rest) => createWebhook(rest, { events: ["generation.failed"] })),
  );
  provider.script("one", { fault: "status", status: 500 });
  expect((await sendMessage(anna, id)).status).toBe(201);
  const received = await waitForEvents(annasWebhook?.id ?? "");
  expect(received).toEqual([
    {
      type: "generation.failed",
      user_id: null,
      conversation_id: id,
      data: {
        generation_id: expect.any(String),
        message_id: expect.any(String),
        model: expect.anything(),
        error: { code: expect.any(String), detail: expect.any(String) },
      },
    },
  ]);
  expect(await expandAndListEvents(bensWebhook?.id ?? "")).toEqual([]);
  expect(await expandAndListEvents(rootsWebhook?.id ?? "")).toEqual(received);
  provider.script("one", { pieces: ["fine"] });
  await sendMessage(anna, id);
  await Bun.sleep(300);
  expect(await expandAndListEvents(annasWebhook?.id ?? "")).toHaveLength(1);
});

test("an exhausted budget is reported once per budget and window, to its user and to administrators", async () => {
  const { database } = webhooks.parley;
  const [anna, ben] = [await webhooks.register(), await webhooks.register()];
  const { id } = await createConversation(webhooks.parley, anna.account);
  const [annasWebhook, bensWebhook, rootsWebhook] = await Promise.all(
    [anna, ben, root].map((rest) => createWebhook(rest, { events: ["budget.exceeded"] })),
  );
  const key = await anna.request<{ id: string; key: string }>("POST", "/api-keys", {
    name: "cli",
    scopes: ["chat:completions"],
  });
  const requestCompletion = () =>
    webhooks.parley.fetch("/v1/chat/completions", {
      token: key.body.key,
      json: { model: "openai/one", messages: [{ role: "user", content: "Hello?" }] },
    });
  expect((await requestCompletion()).status).toBe(200);
  expect(await expandAndListEvents(annasWebhook?.id ?? "")).toEqual([]);

  // The key's monthly budget is exhausted, but its user still has budget left.
  await database`update budget_windows set spent_tokens = 1990 where scope = 'key' and period = 'month'`;
  for (let n = 0; n < 3; n += 1) expect((await requestCompletion()).status).toBe(429);
  const [firstEvent, ...otherEvents] = await waitForEvents(annasWebhook?.id ?? "");
  expect(otherEvents).toEqual([]);
  const now = new Date();
  expect(firstEvent).toEqual({
    type: "budget.exceeded",
    user_id: anna.id,
    conversation_id: null,
    data: {
      user_id: anna.id,
      api_key_id: key.body.id,
      period: "month",
      starts_at: new Date(Date.UTC(now.getUTCFullYear(), now.getUTCMonth(), 1)).toISOString(),
      ends_at: new Date(Date.UTC(now.getUTCFullYear(), now.getUTCMonth() + 1, 1)).toISOString(),
      spent_tokens: 1990,
      limit_tokens: 2000,
      spent_usd: expect.any(Number),
      limit_usd: null,
    },
  });

  // Then the user's daily budget is exhausted, and several messages are rejected in parallel.
  await database`update budget_windows set spent_tokens = 2990 where scope_id = ${anna.id} and period = 'day'`;
  const responses = await Promise.all(Array.from({ length: 5 }, () => sendMessage(anna, id)));
  expect(responses.map(({ status }) => status)).toEqual([429, 429, 429, 429, 429]);
  let received = await expandAndListEvents(annasWebhook?.id ?? "");
  while (received.length < 2) received = await expandAndListEvents(annasWebhook?.id ?? "");
  await Bun.sleep(50);
  received = await expandAndListEvents(annasWebhook?.id ?? "");
  expect(received.map(({ data }) => [data?.period, data?.api_key_id])).toEqual([
    ["month", key.body.id],
    ["day", null],
  ]);
  expect(await expandAndListEvents(bensWebhook?.id ?? "")).toEqual([]);
  expect(await expandAndListEvents(rootsWebhook?.id ?? "")).toEqual(received);
});
