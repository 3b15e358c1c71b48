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

/** Makes the database reject matching answer rows, as a column overflow would. */
async function rejectRows(condition: string, event = "update"): Promise<void> {
  await app.parley.database.unsafe(`
    create or replace function refuse_row() returns trigger language plpgsql as $$
    begin raise exception 'refused by a test' using errcode = '22003'; end $$;
    create trigger refuse_row before ${event} on messages for each row when (${condition})
      execute function refuse_row();`);
}
const acceptRows = () => app.parley.database.unsafe("drop trigger if exists refuse_row on messages");

const read = async (id: string): Promise<Message> =>
  (await app.parley
    .fetch(`/api/v1/conversations/${conversationId}/messages/${id}`, { token: anna.access_token })
    .then((answer) => answer.json())) as Message;
const findSpent = async (): Promise<number> => {
  const [row] = await app.parley.database<{ spent: number; reserved: number }[]>`
    select spent_tokens as spent, reserved_tokens as reserved from budget_windows
    where scope_id = ${anna.user.id} and period = 'day'`;
  expect(row?.reserved ?? 0).toBe(0);
  return row?.spent ?? 0;
};
const ask = async (content = "Tell me."): Promise<{ id: string; spent: number }> => {
  const before = await findSpent();
  const { reply } = await app.say(anna, conversationId, content);
  return { id: reply?.id ?? "", spent: (await findSpent()) - before };
};
const requests = () => app.provider.requestsOf("one").length;
const refused = { code: "internal", detail: expect.stringContaining("could not be stored") };

test("an answer that can't be stored as complete fails with its text and its usage, and is charged once", async () => {
  await rejectRows("new.status = 'complete' and new.role = 'assistant'");
  app.provider.script("one", { text: "A text that was shown." });
  const { id, spent } = await ask();
  const message = await read(id);
  expect(message).toMatchObject({
    status: "failed",
    finish_reason: "error",
    content: "A text that was shown.",
    error: refused,
    model: "compatible/one",
  });
  expect(spent).toBe((message.usage?.input_tokens ?? 0) + (message.usage?.output_tokens ?? 0));
  expect(spent).toBeGreaterThan(0);
  expect(requests()).toBe(1);
});

test("usage that can't be stored is omitted, and still charged", async () => {
  await rejectRows("new.input_tokens is not null and new.role = 'assistant'");
  app.provider.script("one", { text: "A text that was shown." });
  const { id, spent } = await ask();
  expect(await read(id)).toMatchObject({
    status: "failed",
    content: "A text that was shown.",
    usage: null,
    error: refused,
  });
  expect(spent).toBeGreaterThan(0);
  expect(requests()).toBe(1);
});

test("an answer whose text can't be stored ends without it", async () => {
  await rejectRows("new.content like '%poison%' and new.role = 'assistant'");
  app.provider.script("one", { text: "Some poison." });
  const { id } = await ask();
  expect(await read(id)).toMatchObject({ status: "failed", content: "", error: refused });
  expect(requests()).toBe(1);
});

test("an answer whose every end is rejected isn't generated again, and ends with its text as soon as possible", async () => {
  await rejectRows("new.role = 'assistant'");
  app.provider.script("one", { text: "A text that was shown." });
  const before = await findSpent();
  const send = app.say(anna, conversationId, "Tell me.").catch(() => null);
  await app.waitUntil(async () => {
    const [row] = await app.parley.database`
      select 1 from generations where status = 'pending' and interruptions > 1`;
    return row;
  });
  await send;
  expect(requests()).toBe(1);
  const spent = (await findSpent()) - before;
  expect(spent).toBeGreaterThan(0);
  await acceptRows();
  const [{ message_id } = { message_id: "" }] = await app.parley.database<{ message_id: string }[]>`
    select message_id from generations where conversation_id = ${conversationId} and status <> 'finished'`;
  await app.waitUntil(async () => ((await read(message_id)).status === "failed" ? true : undefined), 20_000);
  expect(await read(message_id)).toMatchObject({ content: "A text that was shown.", error: { code: "internal" } });
  expect(requests()).toBe(1);
  expect((await findSpent()) - before).toBe(spent);
}, 40_000);

test("an answer rejected by the database doesn't affect others in its batch", async () => {
  await rejectRows("new.content like '%poison%' and new.status = 'complete'");
  app.provider.script("one", { text: "Some poison.", firstDelayMs: 200 }, { text: "All good.", firstDelayMs: 200 });
  const conversations = await Promise.all(Array.from({ length: 20 }, () => app.createConversation(anna)));
  const results = await Promise.all(conversations.map(({ id }) => app.say(anna, id, "Tell me.")));
  const ends = results.map(({ reply }) => `${reply?.status}: ${reply?.content}`).sort();
  expect(ends).toEqual([...Array(19).fill("complete: All good."), "failed: Some poison."]);
  expect(requests()).toBe(20);
});

test("an answer that was interrupted too often ends with the text so far, without another model request", async () => {
  const { id } = await app.createConversation(anna);
  const { database } = app.parley;
  await database`update conversations set last_seq = 1 where id = ${id}`;
  const { message_id, id: generationId } = await insertAnswer(database, {
    conversationId: id,
    requestedBy: anna.user.id,
    text: "So far.",
    leaseMs: 600_000,
  });
  await database`update generations set interruptions = 4, lease_until = now() where id = ${generationId}`;
  const message = await app.waitUntil(async () => {
    const [row] = await database<{ status: string; content: string; error_code: string }[]>`
      select status, content, error_code from messages where id = ${message_id} and status <> 'streaming'`;
    return row;
  });
  expect(message).toEqual({ status: "failed", content: "So far.", error_code: "internal" });
  expect(requests()).toBe(0);
});

test("a tool result that can't be stored ends the answer, and its usage is charged", async () => {
  await rejectRows("new.role = 'tool'", "insert");
  const call = { name: "search_documents", arguments: '{"query":"models"}' };
  app.provider.script("one", { text: "Let me look. ", toolCalls: [call] });
  const before = await findSpent();
  const { id } = await app.createConversation(anna, [], { tools: true });
  const { reply } = await app.say(anna, id, "Look it up.");
  expect(reply).toMatchObject({ status: "failed", content: "Let me look. ", error: { code: "internal" } } as never);
  expect(await findSpent()).toBeGreaterThan(before);
  expect(requests()).toBe(1);
});

test("a checkpoint rejected by the database doesn't prevent others from being stored", async () => {
  const { database } = app.parley;
  await database.unsafe(`
    create or replace function refuse_piece() returns trigger language plpgsql as $$
    begin raise exception 'refused by a test' using errcode = '22003'; end $$;
    create trigger refuse_piece before insert on generation_pieces for each row when (new.text like '%poison%')
      execute function refuse_piece();`);
  const slow = (word: string) => ({ pieces: Array(60).fill(`${word} `), pieceDelayMs: 30 });
  app.provider.script("one", slow("poison"), slow("fine"), slow("fine"));
  const conversations = await Promise.all([1, 2, 3].map(() => app.createConversation(anna)));
  const results = Promise.all(conversations.map(({ id }) => app.say(anna, id, "Tell me.")));
  await app.waitUntil(async () => {
    const rows = await database`select distinct generation_id from generation_pieces where text like '%fine%'`;
    return rows.length === 2 ? true : undefined;
  });
  expect((await results).map(({ reply }) => reply?.status)).toEqual(["complete", "complete", "complete"]);
  await database`drop trigger refuse_piece on generation_pieces`;
});

test("a /v1 answer that can't be stored is returned to its client, and stored as failed", async () => {
  await rejectRows("new.status = 'complete' and new.role = 'assistant'", "insert");
  app.provider.script("one", { text: "A text that was shown." });
  const { id } = await app.createConversation(anna);
  const answer = await app.parley.fetch("/v1/chat/completions", {
    token: anna.access_token,
    json: {
      model: "compatible/one",
      messages: [{ role: "user", content: "Tell me." }],
      metadata: { conversation_id: id },
    },
  });
  expect(answer.status).toBe(200);
  const row = await app.waitUntil(async () => {
    const [row] = await app.parley.database<{ status: string; content: string; error_code: string }[]>`
      select status, content, error_code from messages where conversation_id = ${id} and role = 'assistant'`;
    return row;
  });
  expect(row).toEqual({ status: "failed", content: "A text that was shown.", error_code: "internal" });
  expect(requests()).toBe(1);
});

test("a /v1 request whose question can't be stored fails, and its usage is charged", async () => {
  await rejectRows("new.role = 'user'", "insert");
  app.provider.script("one", { pieces: Array(100).fill("word "), pieceDelayMs: 20 });
  const { id } = await app.createConversation(anna);
  const before = await findSpent();
  const answer = await app.parley.fetch("/v1/chat/completions", {
    token: anna.access_token,
    json: {
      model: "compatible/one",
      messages: [{ role: "user", content: "Tell me." }],
      metadata: { conversation_id: id },
    },
  });
  expect(answer.status).toBe(500);
  expect(await answer.json()).toMatchObject({ error: { code: "internal" } });
  expect(await findSpent()).toBeGreaterThan(before);
  expect(app.provider.requestsOf("one")[0]?.aborted).toBe(true);
  expect(await app.parley.database`select 1 from messages where conversation_id = ${id}`).toHaveLength(0);
});

test("a stopped answer that was interrupted too often ends as cancelled", async () => {
  const { id } = await app.createConversation(anna);
  const { database } = app.parley;
  await database`update conversations set last_seq = 1 where id = ${id}`;
  const { message_id, id: generationId } = await insertAnswer(database, {
    conversationId: id,
    requestedBy: anna.user.id,
    text: "So far.",
    leaseMs: 600_000,
  });
  await database`
    update generations set interruptions = 5, cancel_requested_at = now(), lease_until = now() where id = ${generationId}`;
  const message = await app.waitUntil(async () => {
    const [row] = await database<{ status: string; content: string; error_code: string | null }[]>`
      select status, content, error_code from messages where id = ${message_id} and status <> 'streaming'`;
    return row;
  });
  expect(message).toEqual({ status: "cancelled", content: "So far.", error_code: null });
});
