import { afterAll, afterEach, beforeAll, expect, test } from "bun:test";
import type { Message } from "../../src/protocol/message.ts";
import { insertAnswer } from "../support/answer.ts";
import type { Account } from "../support/app.ts";
import { type ModelApp, startModelApp } from "./start-model-app.ts";

let app: ModelApp;
let anna: Account;
let conversationId: string;
beforeAll(async () => {
  app = await startModelApp({ BUDGET_USER_TOKENS_PER_DAY: "100000000" });
  anna = await app.parley.register();
  conversationId = (await app.createConversation(anna)).id;
});
afterEach(async () => {
  await acceptRows();
  app.provider.reset();
});
afterAll(() => app.stop());

/** Makes the database reject matching message rows with the error that a column overflow causes. */
async function rejectRows(condition: string, event = "update"): Promise<void> {
  await app.parley.database.unsafe(`
    create or replace function reject_row() returns trigger language plpgsql as $$
    begin raise exception 'rejected by a test' using errcode = '22003'; end $$;
    create trigger reject_row before ${event} on messages for each row when (${condition})
      execute function reject_row();`);
}
const acceptRows = () => app.parley.database.unsafe("drop trigger if exists reject_row on messages");

const getMessage = async (id: string): Promise<Message> =>
  (await app.parley
    .fetch(`/api/v1/conversations/${conversationId}/messages/${id}`, { token: anna.access_token })
    .then((response) => response.json())) as Message;
const getSpentTokens = async (): Promise<number> => {
  const [row] = await app.parley.database<{ spent: number; reserved: number }[]>`
    select spent_tokens as spent, reserved_tokens as reserved from budget_windows
    where scope_id = ${anna.user.id} and period = 'day'`;
  expect(row?.reserved ?? 0).toBe(0);
  return row?.spent ?? 0;
};
const requestAnswer = async (content = "Tell me."): Promise<{ id: string; spentTokens: number }> => {
  const spentBefore = await getSpentTokens();
  const { reply } = await app.sendMessage(anna, conversationId, content);
  return { id: reply?.id ?? "", spentTokens: (await getSpentTokens()) - spentBefore };
};
const countRequests = () => app.provider.listRequests("one").length;
const storageError = { code: "internal", detail: expect.stringContaining("could not be stored") };

test("an answer that can't be stored as complete is stored as failed with its text and usage, and charged once", async () => {
  await rejectRows("new.status = 'complete' and new.role = 'assistant'");
  app.provider.script("one", { text: "A visible text." });
  const { id, spentTokens } = await requestAnswer();
  const message = await getMessage(id);
  expect(message).toMatchObject({
    status: "failed",
    finish_reason: "error",
    content: "A visible text.",
    error: storageError,
    model: "compatible/one",
  });
  expect(spentTokens).toBe((message.usage?.input_tokens ?? 0) + (message.usage?.output_tokens ?? 0));
  expect(spentTokens).toBeGreaterThan(0);
  expect(countRequests()).toBe(1);
});

test("usage that can't be stored is omitted, but still charged", async () => {
  await rejectRows("new.input_tokens is not null and new.role = 'assistant'");
  app.provider.script("one", { text: "A visible text." });
  const { id, spentTokens } = await requestAnswer();
  expect(await getMessage(id)).toMatchObject({
    status: "failed",
    content: "A visible text.",
    usage: null,
    error: storageError,
  });
  expect(spentTokens).toBeGreaterThan(0);
  expect(countRequests()).toBe(1);
});

test("an answer whose text can't be stored fails, and is stored without the text", async () => {
  await rejectRows("new.content like '%poison%' and new.role = 'assistant'");
  app.provider.script("one", { text: "Some poison." });
  const { id } = await requestAnswer();
  expect(await getMessage(id)).toMatchObject({ status: "failed", content: "", error: storageError });
  expect(countRequests()).toBe(1);
});

test("an answer that can't be stored at first is stored as soon as the database accepts it, without being generated again", async () => {
  await rejectRows("new.role = 'assistant'");
  app.provider.script("one", { text: "A visible text." });
  const spentBefore = await getSpentTokens();
  const sendPromise = app.sendMessage(anna, conversationId, "Tell me.").catch(() => null);
  await app.waitForValue(async () => {
    const [row] = await app.parley.database`
      select 1 from generations where status = 'pending' and interruptions > 1`;
    return row;
  });
  await sendPromise;
  expect(countRequests()).toBe(1);
  const spentTokens = (await getSpentTokens()) - spentBefore;
  expect(spentTokens).toBeGreaterThan(0);
  await acceptRows();
  const [{ message_id } = { message_id: "" }] = await app.parley.database<{ message_id: string }[]>`
    select message_id from generations where conversation_id = ${conversationId} and status <> 'finished'`;
  await app.waitForValue(async () => ((await getMessage(message_id)).status === "failed" ? true : undefined), 20_000);
  expect(await getMessage(message_id)).toMatchObject({ content: "A visible text.", error: { code: "internal" } });
  expect(countRequests()).toBe(1);
  expect((await getSpentTokens()) - spentBefore).toBe(spentTokens);
}, 40_000);

test("an answer that the database rejects doesn't affect other answers in its batch", async () => {
  await rejectRows("new.content like '%poison%' and new.status = 'complete'");
  app.provider.script("one", { text: "Some poison.", firstDelayMs: 200 }, { text: "Valid.", firstDelayMs: 200 });
  const conversations = await Promise.all(Array.from({ length: 20 }, () => app.createConversation(anna)));
  const results = await Promise.all(conversations.map(({ id }) => app.sendMessage(anna, id, "Tell me.")));
  const outcomes = results.map(({ reply }) => `${reply?.status}: ${reply?.content}`).sort();
  expect(outcomes).toEqual([...Array(19).fill("complete: Valid."), "failed: Some poison."]);
  expect(countRequests()).toBe(20);
});

test("an answer that was interrupted too often fails with its partial text, without a second model request", async () => {
  const { id } = await app.createConversation(anna);
  const { database } = app.parley;
  await database`update conversations set last_seq = 1 where id = ${id}`;
  const { message_id, id: generationId } = await insertAnswer(database, {
    conversationId: id,
    requestedBy: anna.user.id,
    text: "Partial text.",
    leaseMs: 600_000,
  });
  await database`update generations set interruptions = 4, lease_until = now() where id = ${generationId}`;
  const message = await app.waitForValue(async () => {
    const [row] = await database<{ status: string; content: string; error_code: string }[]>`
      select status, content, error_code from messages where id = ${message_id} and status <> 'streaming'`;
    return row;
  });
  expect(message).toEqual({ status: "failed", content: "Partial text.", error_code: "internal" });
  expect(countRequests()).toBe(0);
});

test("an answer fails if its tool result can't be stored, and its usage is charged", async () => {
  await rejectRows("new.role = 'tool'", "insert");
  const call = { name: "search_documents", arguments: '{"query":"models"}' };
  app.provider.script("one", { text: "Let me look. ", toolCalls: [call] });
  const spentBefore = await getSpentTokens();
  const { id } = await app.createConversation(anna, [], { tools: true });
  const { reply } = await app.sendMessage(anna, id, "Look it up.");
  expect(reply).toMatchObject({ status: "failed", content: "Let me look. ", error: { code: "internal" } } as never);
  expect(await getSpentTokens()).toBeGreaterThan(spentBefore);
  expect(countRequests()).toBe(1);
});

test("a piece that the database rejects doesn't prevent other answers' pieces from being stored", async () => {
  const { database } = app.parley;
  await database.unsafe(`
    create or replace function reject_piece() returns trigger language plpgsql as $$
    begin raise exception 'rejected by a test' using errcode = '22003'; end $$;
    create trigger reject_piece before insert on generation_pieces for each row when (new.text like '%poison%')
      execute function reject_piece();`);
  const createSlowScript = (word: string) => ({ pieces: Array(60).fill(`${word} `), pieceDelayMs: 30 });
  app.provider.script("one", createSlowScript("poison"), createSlowScript("fine"), createSlowScript("fine"));
  const conversations = await Promise.all([1, 2, 3].map(() => app.createConversation(anna)));
  const results = Promise.all(conversations.map(({ id }) => app.sendMessage(anna, id, "Tell me.")));
  await app.waitForValue(async () => {
    const rows = await database`select distinct generation_id from generation_pieces where text like '%fine%'`;
    return rows.length === 2 ? true : undefined;
  });
  expect((await results).map(({ reply }) => reply?.status)).toEqual(["complete", "complete", "complete"]);
  await database`drop trigger reject_piece on generation_pieces`;
});

test("a /v1 answer that can't be stored as complete is returned to the client and stored as failed", async () => {
  await rejectRows("new.status = 'complete' and new.role = 'assistant'", "insert");
  app.provider.script("one", { text: "A visible text." });
  const { id } = await app.createConversation(anna);
  const response = await app.parley.fetch("/v1/chat/completions", {
    token: anna.access_token,
    json: {
      model: "compatible/one",
      messages: [{ role: "user", content: "Tell me." }],
      metadata: { conversation_id: id },
    },
  });
  expect(response.status).toBe(200);
  const row = await app.waitForValue(async () => {
    const [row] = await app.parley.database<{ status: string; content: string; error_code: string }[]>`
      select status, content, error_code from messages where conversation_id = ${id} and role = 'assistant'`;
    return row;
  });
  expect(row).toEqual({ status: "failed", content: "A visible text.", error_code: "internal" });
  expect(countRequests()).toBe(1);
});

test("a /v1 request whose question can't be stored fails, and its usage is charged", async () => {
  await rejectRows("new.role = 'user'", "insert");
  app.provider.script("one", { pieces: Array(100).fill("word "), pieceDelayMs: 20 });
  const { id } = await app.createConversation(anna);
  const spentBefore = await getSpentTokens();
  const response = await app.parley.fetch("/v1/chat/completions", {
    token: anna.access_token,
    json: {
      model: "compatible/one",
      messages: [{ role: "user", content: "Tell me." }],
      metadata: { conversation_id: id },
    },
  });
  expect(response.status).toBe(500);
  expect(await response.json()).toMatchObject({ error: { code: "internal" } });
  expect(await getSpentTokens()).toBeGreaterThan(spentBefore);
  expect(app.provider.listRequests("one")[0]?.wasAborted).toBe(true);
  expect(await app.parley.database`select 1 from messages where conversation_id = ${id}`).toHaveLength(0);
});

test("a cancelled answer that was interrupted too often stays cancelled", async () => {
  const { id } = await app.createConversation(anna);
  const { database } = app.parley;
  await database`update conversations set last_seq = 1 where id = ${id}`;
  const { message_id, id: generationId } = await insertAnswer(database, {
    conversationId: id,
    requestedBy: anna.user.id,
    text: "Partial text.",
    leaseMs: 600_000,
  });
  await database`
    update generations set interruptions = 5, cancel_requested_at = now(), lease_until = now() where id = ${generationId}`;
  const message = await app.waitForValue(async () => {
    const [row] = await database<{ status: string; content: string; error_code: string | null }[]>`
      select status, content, error_code from messages where id = ${message_id} and status <> 'streaming'`;
    return row;
  });
  expect(message).toEqual({ status: "cancelled", content: "Partial text.", error_code: null });
});
