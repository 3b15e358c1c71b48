import { afterAll, beforeAll, beforeEach, expect, test } from "bun:test";
import { withTransaction } from "../../src/db/client.ts";
import { createAuditService } from "../../src/modules/audit/service.ts";
import { createPasswords } from "../../src/modules/users/passwords.ts";
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
async function listReceived(webhookId: string): Promise<ReceivedEvent[]> {
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
    const received = await listReceived(webhookId);
    if (received.length > 0) return received;
    await Bun.sleep(10);
  }
}

const send = (rest: RestClient, conversationId: string) =>
  rest.request("POST", `/conversations/${conversationId}/messages`, { content: "Hello?", reply: true });

test("only administrators are notified of each new user, however the account was created", async () => {
  const { database } = webhooks.parley;
  const ben = await webhooks.register();
  const rootsWebhook = await createWebhook(root, { events: ["user.created"] });
  const bensWebhook = await createWebhook(ben, { events: ["user.created", "user.deleted"] });
  const registered = await webhooks.register();
  const { body: created } = await root.request<{ id: string }>("POST", "/users", {
    email: "created@example.com",
    password: "a long password 1",
    role: "user",
  });
  const passwords = createPasswords({ memoryKib: 64, iterations: 1 });
  const users = createUserService({ database, audit: createAuditService(), passwords });
  const { user: administrator } = await users.createAdministrator("administrator@example.com", "a long password 1");
  const passwordless = await withTransaction(database, (sql) =>
    users.createPasswordless(sql, { email: "passwordless@example.com", name: "Passwordless" }),
  );
  // A second account with the same email is refused, and a failing transaction sends nothing.
  expect(
    (await root.request("POST", "/users", { email: "created@example.com", password: "a long password 1" })).status,
  ).toBe(409);
  const failing = withTransaction(database, async (sql) => {
    await users.createPasswordless(sql, { email: "undone@example.com", name: null });
    throw new Error("undone");
  });
  await expect(failing).rejects.toThrow("undone");
  const received = await listReceived(rootsWebhook.id);
  expect(received.map(({ type, user_id }) => [type, user_id])).toEqual(
    [registered.id, created.id, administrator.id, passwordless?.id].map((id) => ["user.created", id ?? ""]),
  );
  expect(await listReceived(bensWebhook.id)).toEqual([]);
});

test("administrators are notified of each deleted user, whoever deleted the account", async () => {
  const [anna, ben] = [await webhooks.register(), await webhooks.register()];
  const rootsWebhook = await createWebhook(root, { events: ["user.deleted"] });
  const annasWebhook = await createWebhook(anna, { events: ["*"] });
  const refused = await anna.request("DELETE", "/me", { current_password: "wrong" });
  expect(refused.status).toBeGreaterThanOrEqual(400);
  expect(await listReceived(rootsWebhook.id)).toEqual([]);
  expect((await anna.request("DELETE", "/me", { current_password: TEST_PASSWORD })).status).toBe(204);
  expect((await root.request("DELETE", `/users/${ben.id}`)).status).toBe(204);
  expect((await listReceived(rootsWebhook.id)).map(({ type, data }) => [type, data])).toEqual([
    ["user.deleted", { id: anna.id }],
    ["user.deleted", { id: ben.id }],
  ]);
  expect(await listReceived(annasWebhook.id)).toEqual([]);
});

test("members are notified of a failed generation and its error, but outsiders aren't", async () => {
  const [anna, ben] = [await webhooks.register(), await webhooks.register()];
  const { id } = await createConversation(webhooks.parley, anna.account);
  const [annasWebhook, bensWebhook, rootsWebhook] = await Promise.all(
    [anna, ben, root].map((rest) => createWebhook(rest, { events: ["generation.failed"] })),
  );
  provider.script("one", { fault: "status", status: 500 });
  expect((await send(anna, id)).status).toBe(201);
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
  expect(await listReceived(bensWebhook?.id ?? "")).toEqual([]);
  expect(await listReceived(rootsWebhook?.id ?? "")).toEqual(received);
  provider.script("one", { pieces: ["fine"] });
  await send(anna, id);
  await Bun.sleep(300);
  expect(await listReceived(annasWebhook?.id ?? "")).toHaveLength(1);
});

test("an exhausted budget is reported once per payer and window, to its user and to administrators", async () => {
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
  const complete = () =>
    webhooks.parley.fetch("/v1/chat/completions", {
      token: key.body.key,
      json: { model: "openai/one", messages: [{ role: "user", content: "Hello?" }] },
    });
  expect((await complete()).status).toBe(200);
  expect(await listReceived(annasWebhook?.id ?? "")).toEqual([]);

  // The key's month is exhausted, while its user has budget left.
  await database`update budget_windows set spent_tokens = 1990 where scope = 'key' and period = 'month'`;
  for (let n = 0; n < 3; n += 1) expect((await complete()).status).toBe(429);
  const [first, ...others] = await waitForEvents(annasWebhook?.id ?? "");
  expect(others).toEqual([]);
  const now = new Date();
  expect(first).toEqual({
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

  // Then the user's day is exhausted, and several sends are refused in parallel.
  await database`update budget_windows set spent_tokens = 2990 where scope_id = ${anna.id} and period = 'day'`;
  const refused = await Promise.all(Array.from({ length: 5 }, () => send(anna, id)));
  expect(refused.map(({ status }) => status)).toEqual([429, 429, 429, 429, 429]);
  let received = await listReceived(annasWebhook?.id ?? "");
  while (received.length < 2) received = await listReceived(annasWebhook?.id ?? "");
  await Bun.sleep(50);
  received = await listReceived(annasWebhook?.id ?? "");
  expect(received.map(({ data }) => [data?.period, data?.api_key_id])).toEqual([
    ["month", key.body.id],
    ["day", null],
  ]);
  expect(await listReceived(bensWebhook?.id ?? "")).toEqual([]);
  expect(await listReceived(rootsWebhook?.id ?? "")).toEqual(received);
});
