import { afterAll, afterEach, beforeAll, expect, test } from "bun:test";
import type { Message } from "../../src/protocol/message.ts";
import { insertAnswer } from "../support/answer.ts";
import type { Account } from "../support/app.ts";
import { type Asking, startAsking } from "./start-asking.ts";

let asking: Asking;
let anna: Account;
let conversationId: string;
beforeAll(async () => {
  asking = await startAsking({ BUDGET_USER_TOKENS_PER_DAY: "100000000" });
  anna = await asking.parley.register();
  conversationId = (await asking.createConversation(anna)).id;
});
afterEach(async () => {
  await allow();
  asking.provider.reset();
});
afterAll(() => asking.stop());

/** Makes the database reject matching answer rows, as a column that is too small would. */
async function refuse(condition: string, event = "update"): Promise<void> {
  await asking.parley.database.unsafe(`
    create or replace function refuse_row() returns trigger language plpgsql as $$
    begin raise exception 'refused by a test' using errcode = '22003'; end $$;
    create trigger refuse_row before ${event} on messages for each row when (${condition})
      execute function refuse_row();`);
}
const allow = () => asking.parley.database.unsafe("drop trigger if exists refuse_row on messages");

const read = async (id: string): Promise<Message> =>
  (await asking.parley
    .fetch(`/api/v1/conversations/${conversationId}/messages/${id}`, { token: anna.access_token })
    .then((answer) => answer.json())) as Message;
const findSpent = async (): Promise<number> => {
  const [row] = await asking.parley.database<{ spent: number; reserved: number }[]>`
    select spent_tokens as spent, reserved_tokens as reserved from budget_windows
    where scope_id = ${anna.user.id} and period = 'day'`;
  expect(row?.reserved ?? 0).toBe(0);
  return row?.spent ?? 0;
};
const ask = async (content = "Tell me."): Promise<{ id: string; spent: number }> => {
  const before = await findSpent();
  const { reply } = await asking.say(anna, conversationId, content);
  return { id: reply?.id ?? "", spent: (await findSpent()) - before };
};
const requests = () => asking.provider.requestsOf("one").length;
const refused = { code: "internal", detail: expect.stringContaining("could not be stored") };

test("an answer that cannot be stored as complete fails with its text and its usage, and is charged once", async () => {
  await refuse("new.status = 'complete' and new.role = 'assistant'");
  asking.provider.script("one", { text: "A text that was shown." });
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

test("if its usage is what cannot be stored, it is left out, and charged all the same", async () => {
  await refuse("new.input_tokens is not null and new.role = 'assistant'");
  asking.provider.script("one", { text: "A text that was shown." });
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

test("if its text is what cannot be stored, the answer ends without it", async () => {
  await refuse("new.content like '%poison%' and new.role = 'assistant'");
  asking.provider.script("one", { text: "Some poison." });
  const { id } = await ask();
  expect(await read(id)).toMatchObject({ status: "failed", content: "", error: refused });
  expect(requests()).toBe(1);
});

test("an answer whose every end is refused asks no model again, and ends with its text when it can", async () => {
  await refuse("new.role = 'assistant'");
  asking.provider.script("one", { text: "A text that was shown." });
  const before = await findSpent();
  const send = asking.say(anna, conversationId, "Tell me.").catch(() => null);
  await asking.until(async () => {
    const [row] = await asking.parley.database`
      select 1 from generations where status = 'pending' and interruptions > 1`;
    return row;
  });
  await send;
  expect(requests()).toBe(1);
  const spent = (await findSpent()) - before;
  expect(spent).toBeGreaterThan(0);
  await allow();
  const [{ message_id } = { message_id: "" }] = await asking.parley.database<{ message_id: string }[]>`
    select message_id from generations where conversation_id = ${conversationId} and status <> 'finished'`;
  await asking.until(async () => ((await read(message_id)).status === "failed" ? true : undefined), 20_000);
  expect(await read(message_id)).toMatchObject({ content: "A text that was shown.", error: { code: "internal" } });
  expect(requests()).toBe(1);
  expect((await findSpent()) - before).toBe(spent);
}, 40_000);

test("an answer that the database refuses does no harm to those that end with it", async () => {
  await refuse("new.content like '%poison%' and new.status = 'complete'");
  asking.provider.script("one", { text: "Some poison.", firstDelayMs: 200 }, { text: "All good.", firstDelayMs: 200 });
  const conversations = await Promise.all(Array.from({ length: 20 }, () => asking.createConversation(anna)));
  const said = await Promise.all(conversations.map(({ id }) => asking.say(anna, id, "Tell me.")));
  const ends = said.map(({ reply }) => `${reply?.status}: ${reply?.content}`).sort();
  expect(ends).toEqual([...Array(19).fill("complete: All good."), "failed: Some poison."]);
  expect(requests()).toBe(20);
});

test("an answer that was interrupted too often ends with the text so far, and no model is asked", async () => {
  const { id } = await asking.createConversation(anna);
  const { database } = asking.parley;
  await database`update conversations set last_seq = 1 where id = ${id}`;
  const { message_id, id: generationId } = await insertAnswer(database, {
    conversationId: id,
    requestedBy: anna.user.id,
    text: "So far.",
    leaseMs: 600_000,
  });
  await database`update generations set interruptions = 4, lease_until = now() where id = ${generationId}`;
  const message = await asking.until(async () => {
    const [row] = await database<{ status: string; content: string; error_code: string }[]>`
      select status, content, error_code from messages where id = ${message_id} and status <> 'streaming'`;
    return row;
  });
  expect(message).toEqual({ status: "failed", content: "So far.", error_code: "internal" });
  expect(requests()).toBe(0);
});

test("a tool's result that cannot be stored ends the answer, and what was used is charged", async () => {
  await refuse("new.role = 'tool'", "insert");
  const call = { name: "search_documents", arguments: '{"query":"models"}' };
  asking.provider.script("one", { text: "Let me look. ", toolCalls: [call] });
  const before = await findSpent();
  const { id } = await asking.createConversation(anna, [], { tools: true });
  const { reply } = await asking.say(anna, id, "Look it up.");
  expect(reply).toMatchObject({ status: "failed", content: "Let me look. ", error: { code: "internal" } } as never);
  expect(await findSpent()).toBeGreaterThan(before);
  expect(requests()).toBe(1);
});

test("a text so far that the database refuses keeps no other one from being stored", async () => {
  const { database } = asking.parley;
  await database.unsafe(`
    create or replace function refuse_piece() returns trigger language plpgsql as $$
    begin raise exception 'refused by a test' using errcode = '22003'; end $$;
    create trigger refuse_piece before insert on generation_pieces for each row when (new.text like '%poison%')
      execute function refuse_piece();`);
  const slow = (word: string) => ({ pieces: Array(60).fill(`${word} `), pieceDelayMs: 30 });
  asking.provider.script("one", slow("poison"), slow("fine"), slow("fine"));
  const conversations = await Promise.all([1, 2, 3].map(() => asking.createConversation(anna)));
  const said = Promise.all(conversations.map(({ id }) => asking.say(anna, id, "Tell me.")));
  await asking.until(async () => {
    const rows = await database`select distinct generation_id from generation_pieces where text like '%fine%'`;
    return rows.length === 2 ? true : undefined;
  });
  expect((await said).map(({ reply }) => reply?.status)).toEqual(["complete", "complete", "complete"]);
  await database`drop trigger refuse_piece on generation_pieces`;
});

test("the answer of a /v1 request that cannot be stored is given to its client, and stored as failed", async () => {
  await refuse("new.status = 'complete' and new.role = 'assistant'", "insert");
  asking.provider.script("one", { text: "A text that was shown." });
  const { id } = await asking.createConversation(anna);
  const answer = await asking.parley.fetch("/v1/chat/completions", {
    token: anna.access_token,
    json: {
      model: "compatible/one",
      messages: [{ role: "user", content: "Tell me." }],
      metadata: { conversation_id: id },
    },
  });
  expect(answer.status).toBe(200);
  const row = await asking.until(async () => {
    const [row] = await asking.parley.database<{ status: string; content: string; error_code: string }[]>`
      select status, content, error_code from messages where conversation_id = ${id} and role = 'assistant'`;
    return row;
  });
  expect(row).toEqual({ status: "failed", content: "A text that was shown.", error_code: "internal" });
  expect(requests()).toBe(1);
});

test("a /v1 request whose question cannot be stored fails, and what its model has used is charged", async () => {
  await refuse("new.role = 'user'", "insert");
  asking.provider.script("one", { pieces: Array(100).fill("word "), pieceDelayMs: 20 });
  const { id } = await asking.createConversation(anna);
  const before = await findSpent();
  const answer = await asking.parley.fetch("/v1/chat/completions", {
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
  expect(asking.provider.requestsOf("one")[0]?.aborted).toBe(true);
  expect(await asking.parley.database`select 1 from messages where conversation_id = ${id}`).toHaveLength(0);
});

test("a stopped answer that was interrupted too often ends as cancelled", async () => {
  const { id } = await asking.createConversation(anna);
  const { database } = asking.parley;
  await database`update conversations set last_seq = 1 where id = ${id}`;
  const { message_id, id: generationId } = await insertAnswer(database, {
    conversationId: id,
    requestedBy: anna.user.id,
    text: "So far.",
    leaseMs: 600_000,
  });
  await database`
    update generations set interruptions = 5, cancel_requested_at = now(), lease_until = now() where id = ${generationId}`;
  const message = await asking.until(async () => {
    const [row] = await database<{ status: string; content: string; error_code: string | null }[]>`
      select status, content, error_code from messages where id = ${message_id} and status <> 'streaming'`;
    return row;
  });
  expect(message).toEqual({ status: "cancelled", content: "So far.", error_code: null });
});
