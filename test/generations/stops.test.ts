import { afterAll, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { type Account, startApp, type TestApp } from "../support/app.ts";
import { createConversation } from "../support/conversation.ts";
import { type MockProvider, startMockProvider } from "../support/mock-provider/server.ts";
import { createTestDatabase } from "../support/postgres.ts";
import { openSocket } from "../support/socket.ts";

/** Two instances with one database and no bus between them: each learns of the other's requests from the database. */
let provider: MockProvider;
let writing: TestApp;
let other: TestApp;
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
  writing = await startApp({ database, config });
  other = await startApp({ database, config });
});
beforeEach(async () => {
  provider.reset();
  provider.script("one", { pieces: Array.from({ length: 500 }, (_, n) => `w${n} `), pieceDelayMs: 20 });
  [admin, anna, ben] = await Promise.all([writing.register(), writing.register(), writing.register()]);
  await writing.database`update users set role = 'admin' where id = ${admin.user.id}`;
  conversationId = (await createConversation(writing, anna, [ben], { kind: "group" })).id;
});
afterAll(async () => {
  await Promise.all([writing.stop(), other.stop()]);
  await provider.stop();
  await writing.database.end({ timeout: 1 });
});

async function waitUntil<T>(find: () => Promise<T | undefined> | T | undefined, waitMs = 5_000): Promise<T> {
  const endsAtMs = performance.now() + waitMs;
  for (;;) {
    const found = await find();
    if (found !== undefined) return found;
    if (performance.now() > endsAtMs) throw new Error(`The condition was not met in ${waitMs} ms.`);
    await Bun.sleep(10);
  }
}

/** Sends on the first instance, and waits until the model writes. */
async function ask(account: Account): Promise<{ id: string }> {
  const sent = await writing.fetch(`/api/v1/conversations/${conversationId}/messages`, {
    token: account.access_token,
    json: { content: "Talk to me.", reply: true },
  });
  const { reply } = (await sent.json()) as { reply: { id: string } };
  await waitUntil(async () => {
    const rows = await writing.database`select 1 from current_messages where id = ${reply.id} and content <> ''`;
    return rows.length > 0 ? true : undefined;
  });
  return reply;
}

/** Calls `stop`, and returns how long it took until the provider's request ended. */
async function measureStop(stop: () => Promise<Response>): Promise<number> {
  expect(provider.requestsOf("one")).toHaveLength(1);
  const startedMs = performance.now();
  const [answer] = await Promise.all([
    stop(),
    waitUntil(() => (provider.requestsOf("one")[0]?.aborted ? true : undefined), 4_000),
  ]);
  expect(answer.status).toBeLessThan(300);
  return performance.now() - startedMs;
}

const findSpent = async (account: Account): Promise<{ spent: number; reserved: number }> => {
  const [row] = await writing.database<{ spent: number; reserved: number }[]>`
    select spent_tokens as spent, reserved_tokens as reserved from budget_windows
    where scope_id = ${account.user.id} and period = 'day'`;
  return row ?? { spent: 0, reserved: 0 };
};

const disable = (account: Account) =>
  other.fetch(`/api/v1/users/${account.user.id}`, {
    method: "PATCH",
    token: admin.access_token,
    json: { disabled: true },
  });
const deleteUser = (account: Account) =>
  other.fetch(`/api/v1/users/${account.user.id}`, { method: "DELETE", token: admin.access_token });
const deleteConversation = (account: Account) =>
  other.fetch(`/api/v1/conversations/${conversationId}`, { method: "DELETE", token: account.access_token });

describe("an answer in progress stops within two seconds", () => {
  test("when its conversation is deleted; its usage is charged", async () => {
    await ask(anna);
    expect(await measureStop(() => deleteConversation(anna))).toBeLessThan(2_000);
    await waitUntil(async () => {
      const { spent, reserved } = await findSpent(anna);
      return spent > 0 && reserved === 0 ? true : undefined;
    });
    expect(provider.requestsOf("one")).toHaveLength(1);
  });

  test.each([
    ["disabled", disable],
    ["deleted", deleteUser],
  ])("when its requester is %s; other users see its text as cancelled", async (_how, end) => {
    const socket = await openSocket(writing.url, { token: anna.access_token });
    await socket.request({ type: "subscribe", conversation_id: conversationId });
    const { id } = await ask(ben);
    expect(await measureStop(() => end(ben))).toBeLessThan(2_000);
    const { data } = await socket.waitFor(({ type, data }) => type === "message.completed" && data?.id === id);
    expect(data).toMatchObject({ status: "cancelled", finish_reason: "cancelled" });
    expect(String(data?.content)).toStartWith("w0 w1 ");
    expect(provider.requestsOf("one")).toHaveLength(1);
    await socket.close();
  });

  test("but not when its requester leaves the conversation", async () => {
    provider.script("one", { pieces: Array.from({ length: 150 }, (_, n) => `w${n} `), pieceDelayMs: 20 });
    const { id } = await ask(ben);
    const path = `/api/v1/conversations/${conversationId}/members/${ben.user.id}`;
    expect((await other.fetch(path, { method: "DELETE", token: anna.access_token })).status).toBe(204);
    const row = await waitUntil(async () => {
      const [row] = await writing.database<{ status: string }[]>`
        select status from messages where id = ${id} and status <> 'streaming'`;
      return row;
    });
    expect(row.status).toBe("complete");
  });
});

describe("a request to /v1 stops within two seconds", () => {
  type Asked = { token?: string; stream: boolean; isStored: boolean };
  /** Sends a request, and waits until the model writes. */
  async function complete({ token = ben.access_token, stream, isStored }: Asked) {
    const metadata = isStored ? { conversation_id: conversationId } : {};
    const messages = [{ role: "user", content: "Talk to me." }];
    const answer = writing.fetch("/v1/chat/completions", {
      token,
      json: { messages, model: "compatible/one", stream, metadata },
    });
    const text = answer.then(async (response) => ({ status: response.status, text: await response.text() }));
    await waitUntil(() => (provider.requestsOf("one").length > 0 ? true : undefined));
    await Bun.sleep(300);
    return { text };
  }

  const forms = [
    { stream: false, isStored: false },
    { stream: true, isStored: false },
    { stream: false, isStored: true },
    { stream: true, isStored: true },
  ];

  test.each(forms)("when its user is disabled (%p)", async (form) => {
    const { text } = await complete(form);
    expect(await measureStop(() => disable(ben))).toBeLessThan(2_000);
    const result = await text;
    expect(result.status).toBe(form.stream ? 200 : 401);
    expect(result.text).toContain("The session or API key has ended.");
    expect(result.text).not.toContain("[DONE]");
    await waitUntil(async () => ((await findSpent(ben)).spent > 0 ? true : undefined));
    if (!form.isStored) return;
    const [row] = await writing.database<{ status: string; content: string }[]>`
      select status, content from messages where conversation_id = ${conversationId} and role = 'assistant'`;
    expect(row).toMatchObject({ status: "cancelled", content: expect.stringContaining("w0 w1 ") });
  });

  test("when its user is deleted", async () => {
    const { text } = await complete({ stream: true, isStored: false });
    expect(await measureStop(() => deleteUser(ben))).toBeLessThan(2_000);
    expect((await text).text).toContain("The session or API key has ended.");
  });

  test("when its key is revoked", async () => {
    const made = await writing.fetch("/api/v1/api-keys", {
      token: ben.access_token,
      json: { name: "Test", scopes: ["chat:completions"] },
    });
    const { id, key } = (await made.json()) as { id: string; key: string };
    const { text } = await complete({ token: key, stream: false, isStored: false });
    const revoke = () => other.fetch(`/api/v1/api-keys/${id}`, { method: "DELETE", token: ben.access_token });
    expect(await measureStop(revoke)).toBeLessThan(2_000);
    expect((await text).status).toBe(401);
  });

  test.each([{ stream: false }, { stream: true }])("when its conversation is deleted (%p)", async ({ stream }) => {
    const { text } = await complete({ stream, isStored: true });
    expect(await measureStop(() => deleteConversation(anna))).toBeLessThan(2_000);
    const result = await text;
    expect(result.status).toBe(stream ? 200 : 404);
    expect(result.text).toContain("The conversation was deleted.");
    await waitUntil(async () => ((await findSpent(ben)).spent > 0 ? true : undefined));
  });
});

test("title generation stops when the conversation is deleted", async () => {
  provider.script("one", { text: "Answer." }, { pieces: Array(500).fill("w "), pieceDelayMs: 20 });
  const { id } = await createConversation(writing, anna, [], { kind: "direct", title: "" });
  await writing.fetch(`/api/v1/conversations/${id}/messages`, {
    token: anna.access_token,
    json: { content: "Talk to me.", reply: true },
  });
  await waitUntil(() => (provider.requestsOf("one").length === 2 ? true : undefined));
  const startedMs = performance.now();
  await other.fetch(`/api/v1/conversations/${id}`, { method: "DELETE", token: anna.access_token });
  await waitUntil(() => (provider.requestsOf("one")[1]?.aborted ? true : undefined));
  expect(performance.now() - startedMs).toBeLessThan(2_000);
});
