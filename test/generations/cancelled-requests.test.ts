import { afterAll, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { type Account, startApp, type TestApp } from "../support/app.ts";
import { createConversation } from "../support/conversation.ts";
import { type MockProvider, startMockProvider } from "../support/mock-provider/server.ts";
import { createTestDatabase } from "../support/postgres.ts";
import { openSocket } from "../support/socket.ts";

// Two instances share a database but not a bus, so an instance finds the other instance's changes only in the database.
let provider: MockProvider;
let firstInstance: TestApp;
let secondInstance: TestApp;
let admin: Account;
let anna: Account;
let ben: Account;
let conversationId: string;

beforeAll(async () => {
  provider = startMockProvider();
  const database = await createTestDatabase(10);
  const config = {
    COMPATIBLE_BASE_URL: provider.openaiUrl,
    AI_MODELS: "compatible/one",
    AI_MAX_RETRIES: "0",
    BUDGET_USER_TOKENS_PER_DAY: "100000000",
  };
  firstInstance = await startApp({ database, config });
  secondInstance = await startApp({ database, config });
});
beforeEach(async () => {
  provider.reset();
  provider.script("one", { pieces: Array.from({ length: 500 }, (_, n) => `w${n} `), pieceDelayMs: 20 });
  [admin, anna, ben] = await Promise.all([
    firstInstance.register(),
    firstInstance.register(),
    firstInstance.register(),
  ]);
  await firstInstance.database`update users set role = 'admin' where id = ${admin.user.id}`;
  conversationId = (await createConversation(firstInstance, anna, [ben], { kind: "group" })).id;
});
afterAll(async () => {
  await Promise.all([firstInstance.stop(), secondInstance.stop()]);
  await provider.stop();
  await firstInstance.database.end({ timeout: 1 });
});

async function waitForValue<T>(find: () => Promise<T | undefined> | T | undefined, waitMs = 5_000): Promise<T> {
  const deadlineMs = performance.now() + waitMs;
  for (;;) {
    const found = await find();
    if (found !== undefined) return found;
    if (performance.now() > deadlineMs) throw new Error(`The condition was not met in ${waitMs} ms.`);
    await Bun.sleep(10);
  }
}

/** Sends a message to the first instance, and waits until the model has written some text. */
async function startAnswer(account: Account): Promise<{ id: string }> {
  const sendResponse = await firstInstance.fetch(`/api/v1/conversations/${conversationId}/messages`, {
    token: account.access_token,
    json: { content: "Talk to me.", reply: true },
  });
  const { reply } = (await sendResponse.json()) as { reply: { id: string } };
  await waitForValue(async () => {
    const rows = await firstInstance.database`select 1 from current_messages where id = ${reply.id} and content <> ''`;
    return rows.length > 0 ? true : undefined;
  });
  return reply;
}

/** Calls `stop`. @returns the milliseconds until the request to the provider was aborted. */
async function measureStopMs(stop: () => Promise<Response>): Promise<number> {
  expect(provider.listRequests("one")).toHaveLength(1);
  const startedAtMs = performance.now();
  const [response] = await Promise.all([
    stop(),
    waitForValue(() => (provider.listRequests("one")[0]?.wasAborted ? true : undefined), 4_000),
  ]);
  expect(response.status).toBeLessThan(300);
  return performance.now() - startedAtMs;
}

const getBudgetUsage = async (account: Account): Promise<{ spent: number; reserved: number }> => {
  const [row] = await firstInstance.database<{ spent: number; reserved: number }[]>`
    select spent_tokens as spent, reserved_tokens as reserved from budget_windows
    where scope_id = ${account.user.id} and period = 'day'`;
  return row ?? { spent: 0, reserved: 0 };
};

const disableUser = (account: Account) =>
  secondInstance.fetch(`/api/v1/users/${account.user.id}`, {
    method: "PATCH",
    token: admin.access_token,
    json: { disabled: true },
  });
const deleteUser = (account: Account) =>
  secondInstance.fetch(`/api/v1/users/${account.user.id}`, { method: "DELETE", token: admin.access_token });
const deleteConversation = (account: Account) =>
  secondInstance.fetch(`/api/v1/conversations/${conversationId}`, { method: "DELETE", token: account.access_token });

describe("an answer in progress", () => {
  test("stops within two seconds when its conversation is deleted, and its usage is charged", async () => {
    await startAnswer(anna);
    expect(await measureStopMs(() => deleteConversation(anna))).toBeLessThan(2_000);
    await waitForValue(async () => {
      const { spent, reserved } = await getBudgetUsage(anna);
      return spent > 0 && reserved === 0 ? true : undefined;
    });
    expect(provider.listRequests("one")).toHaveLength(1);
  });

  test.each([
    ["disabled", disableUser],
    ["deleted", deleteUser],
  ])("stops within two seconds when its requester is %s, and keeps its text", async (_how, removeUser) => {
    const socket = await openSocket(firstInstance.url, { token: anna.access_token });
    await socket.request({ type: "subscribe", conversation_id: conversationId });
    const { id } = await startAnswer(ben);
    expect(await measureStopMs(() => removeUser(ben))).toBeLessThan(2_000);
    const { data } = await socket.waitFor(({ type, data }) => type === "message.completed" && data?.id === id);
    expect(data).toMatchObject({ status: "cancelled", finish_reason: "cancelled" });
    expect(String(data?.content)).toStartWith("w0 w1 ");
    expect(provider.listRequests("one")).toHaveLength(1);
    await socket.close();
  });

  test("continues when its requester is removed from the conversation", async () => {
    provider.script("one", { pieces: Array.from({ length: 150 }, (_, n) => `w${n} `), pieceDelayMs: 20 });
    const { id } = await startAnswer(ben);
    const path = `/api/v1/conversations/${conversationId}/members/${ben.user.id}`;
    expect((await secondInstance.fetch(path, { method: "DELETE", token: anna.access_token })).status).toBe(204);
    const row = await waitForValue(async () => {
      const [row] = await firstInstance.database<{ status: string }[]>`
        select status from messages where id = ${id} and status <> 'streaming'`;
      return row;
    });
    expect(row.status).toBe("complete");
  });
});

describe("a request to /v1 stops within two seconds", () => {
  type CompletionOptions = { token?: string; stream: boolean; isStored: boolean };
  /** Sends a request, and waits until the model has written some text. */
  async function requestCompletion({ token = ben.access_token, stream, isStored }: CompletionOptions) {
    const metadata = isStored ? { conversation_id: conversationId } : {};
    const messages = [{ role: "user", content: "Talk to me." }];
    const sendPromise = firstInstance.fetch("/v1/chat/completions", {
      token,
      json: { messages, model: "compatible/one", stream, metadata },
    });
    const result = sendPromise.then(async (response) => ({ status: response.status, text: await response.text() }));
    await waitForValue(() => (provider.listRequests("one").length > 0 ? true : undefined));
    await Bun.sleep(300);
    return { result };
  }

  const completionCases = [
    { stream: false, isStored: false },
    { stream: true, isStored: false },
    { stream: false, isStored: true },
    { stream: true, isStored: true },
  ];

  test.each(completionCases)("when its user is disabled (%p)", async (options) => {
    const { result } = await requestCompletion(options);
    expect(await measureStopMs(() => disableUser(ben))).toBeLessThan(2_000);
    const { status, text } = await result;
    expect(status).toBe(options.stream ? 200 : 401);
    expect(text).toContain("The session or API key has ended.");
    expect(text).not.toContain("[DONE]");
    await waitForValue(async () => ((await getBudgetUsage(ben)).spent > 0 ? true : undefined));
    if (!options.isStored) return;
    const [row] = await firstInstance.database<{ status: string; content: string }[]>`
      select status, content from messages where conversation_id = ${conversationId} and role = 'assistant'`;
    expect(row).toMatchObject({ status: "cancelled", content: expect.stringContaining("w0 w1 ") });
  });

  test("when its user is deleted", async () => {
    const { result } = await requestCompletion({ stream: true, isStored: false });
    expect(await measureStopMs(() => deleteUser(ben))).toBeLessThan(2_000);
    expect((await result).text).toContain("The session or API key has ended.");
  });

  test("when its key is revoked", async () => {
    const creationResponse = await firstInstance.fetch("/api/v1/api-keys", {
      token: ben.access_token,
      json: { name: "Test", scopes: ["chat:completions"] },
    });
    const { id, key } = (await creationResponse.json()) as { id: string; key: string };
    const { result } = await requestCompletion({ token: key, stream: false, isStored: false });
    const revoke = () => secondInstance.fetch(`/api/v1/api-keys/${id}`, { method: "DELETE", token: ben.access_token });
    expect(await measureStopMs(revoke)).toBeLessThan(2_000);
    expect((await result).status).toBe(401);
  });

  test.each([{ stream: false }, { stream: true }])("when its conversation is deleted (%p)", async ({ stream }) => {
    const { result } = await requestCompletion({ stream, isStored: true });
    expect(await measureStopMs(() => deleteConversation(anna))).toBeLessThan(2_000);
    const { status, text } = await result;
    expect(status).toBe(stream ? 200 : 404);
    expect(text).toContain("The conversation was deleted.");
    await waitForValue(async () => ((await getBudgetUsage(ben)).spent > 0 ? true : undefined));
  });
});

test("title generation stops when the conversation is deleted", async () => {
  provider.script("one", { text: "Answer." }, { pieces: Array(500).fill("w "), pieceDelayMs: 20 });
  const { id } = await createConversation(firstInstance, anna, [], { kind: "direct", title: "" });
  await firstInstance.fetch(`/api/v1/conversations/${id}/messages`, {
    token: anna.access_token,
    json: { content: "Talk to me.", reply: true },
  });
  await waitForValue(() => (provider.listRequests("one").length === 2 ? true : undefined));
  const startedAtMs = performance.now();
  await secondInstance.fetch(`/api/v1/conversations/${id}`, { method: "DELETE", token: anna.access_token });
  await waitForValue(() => (provider.listRequests("one")[1]?.wasAborted ? true : undefined));
  expect(performance.now() - startedAtMs).toBeLessThan(2_000);
});
