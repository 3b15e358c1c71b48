import { afterAll, beforeAll, beforeEach, expect, test } from "bun:test";
import { createChangeRunner } from "../../src/db/changes.ts";
import { createEventLog } from "../../src/events/log.ts";
import { createId } from "../../src/lib/id.ts";
import { finishAnswers } from "../../src/modules/generations/finisher.ts";
import type { FinalState } from "../../src/modules/generations/queries.ts";
import { releaseGeneration } from "../../src/modules/generations/queries.ts";
import { appendToolMessage } from "../../src/modules/messages/service.ts";
import type { DurableEvent } from "../../src/protocol/events.ts";
import type { Message } from "../../src/protocol/message.ts";
import type { Bus } from "../../src/realtime/bus.ts";
import { insertAnswer } from "../support/answer.ts";
import { type Account, startApp, type TestApp } from "../support/app.ts";
import { createConversation } from "../support/conversation.ts";
import { createDatabaseWithLostResponses } from "../support/database-with-lost-responses.ts";
import { openStream } from "../support/event-stream.ts";
import { type MockProvider, startMockProvider } from "../support/mock-provider/server.ts";
import { openSocket } from "../support/socket.ts";

let provider: MockProvider;
let lossyDatabase: Awaited<ReturnType<typeof createDatabaseWithLostResponses>>;
let parley: TestApp;
let anna: Account;

beforeAll(async () => {
  provider = startMockProvider();
  lossyDatabase = await createDatabaseWithLostResponses();
  parley = await startApp({
    database: lossyDatabase,
    config: { COMPATIBLE_BASE_URL: provider.openaiUrl, AI_MODELS: "compatible/one", AI_MAX_RETRIES: "0" },
  });
});
beforeEach(async () => {
  provider.reset();
  anna = await parley.register();
});
afterAll(async () => {
  await parley.stop();
  await provider.stop();
  await lossyDatabase.end();
});

const getSpentTokens = async (): Promise<number> => {
  const [row] = await lossyDatabase.directDatabase<{ spent: number }[]>`
    select spent_tokens as spent from budget_windows where scope_id = ${anna.user.id} and period = 'day'`;
  return row?.spent ?? 0;
};

// Leases are renewed every second. With at least one of these delays, the renewal falls between the lost response and
// the retry. At that time, the lease appears to be lost.
test.each([0, 250, 500, 750])(
  "an answer whose commit response was lost is pushed, charged once, and followed by title generation (delay: %p ms)",
  async (firstDelayMs) => {
    provider.script("one", { text: "A red animal.", firstDelayMs }, { text: "Foxes", firstDelayMs: 1_000 });
    const { id } = await createConversation(parley, anna, [], { title: "" });
    const responseLost = lossyDatabase.loseNextResponse("end_answers(", "finished");
    const reply = await openStream(parley, `/conversations/${id}/messages`, {
      token: anna.access_token,
      json: { content: "What is a fox?", reply: true },
    });
    await responseLost;
    const { frame: completed } = await reply.waitFor((frame) => frame.type === "message.completed");
    expect(completed.data).toMatchObject({ content: "A red animal.", status: "complete" });
    await reply.closed;
    const [event] = await lossyDatabase.directDatabase<{ seq: number; at: Date }[]>`
    select seq, at from events where conversation_id = ${id} and type = 'message.completed'`;
    expect({ seq: completed.seq, at: completed.at }).toEqual({
      seq: event?.seq ?? 0,
      at: event?.at.toISOString() ?? "",
    } as never);
    const { usage } = completed.data as unknown as Message;
    expect(await getSpentTokens()).toBe((usage?.input_tokens ?? 0) + (usage?.output_tokens ?? 0));
    for (let waits = 0; waits < 200 && provider.listRequests("one").length < 2; waits += 1) await Bun.sleep(20);
    expect(provider.listRequests("one")).toHaveLength(2);
  },
);

test("a released answer can't be finished, and finishing an answer twice returns the same result", async () => {
  const finalState: FinalState = {
    content: "A red animal.",
    status: "complete",
    finishReason: "stop",
    model: null,
    models: [],
    usage: { input_tokens: 60, output_tokens: 40, cached_input_tokens: 0, reasoning_tokens: 0 },
    costUsd: null,
    error: null,
  };
  const { id: conversationId } = await createConversation(parley, anna);
  const owner = createId();
  await lossyDatabase.directDatabase`update conversations set last_seq = 101 where id = ${conversationId}`;
  const insertRunningAnswer = (seq: number) =>
    insertAnswer(lossyDatabase.directDatabase, { conversationId, seq, owner, requestedBy: anna.user.id });
  const finish = async (generation: Awaited<ReturnType<typeof insertRunningAnswer>>) =>
    (await finishAnswers(lossyDatabase.directDatabase, [{ generation, attempt: 1, final: finalState }], false))[0];
  const release = ({ id, fence }: { id: string; fence: number }) =>
    releaseGeneration(lossyDatabase.directDatabase, owner, { conversationId, id, fence }, 0);

  const [releasedAnswer, finishedAnswer] = [await insertRunningAnswer(100), await insertRunningAnswer(101)];
  expect(await release(releasedAnswer)).toBe(true);
  expect(await finish(releasedAnswer)).toMatchObject({ outcome: "lost" });
  const firstResult = await finish(finishedAnswer);
  expect(firstResult).toMatchObject({ outcome: "finished" });
  expect(await finish(finishedAnswer)).toEqual(firstResult as never);
  expect(await release(finishedAnswer)).toBe(false);
  expect(await getSpentTokens()).toBe(100);
});

test.each([
  ["store_answer(", "A red animal."],
  ["settle_charges(", "SELECT 1"],
])(
  "a /v1 answer is stored, pushed and charged once if the database's response to `%s…` is lost",
  async (statement, lostResponse) => {
    provider.script("one", { text: "A red animal." });
    const { id } = await createConversation(parley, anna);
    const socket = await openSocket(parley.url, { token: anna.access_token });
    await socket.request({ type: "subscribe", conversation_id: id });
    const responseLost = lossyDatabase.loseNextResponse(statement, lostResponse);
    const response = await parley.fetch("/v1/chat/completions", {
      token: anna.access_token,
      json: {
        model: "compatible/one",
        messages: [{ role: "user", content: "What is a fox?" }],
        metadata: { conversation_id: id },
      },
    });
    const { usage } = (await response.json()) as { usage: { total_tokens: number } };
    await responseLost;
    const { data } = await socket.waitFor(
      (frame) => frame.type === "message.created" && frame.data?.role === "assistant",
    );
    expect(data).toMatchObject({ content: "A red animal.", status: "complete", model: "compatible/one" });
    for (let waits = 0; waits < 200 && (await getSpentTokens()) === 0; waits += 1) await Bun.sleep(20);
    // Waits long enough for a retry, which must not change anything.
    await Bun.sleep(1_000);
    expect(await getSpentTokens()).toBe(usage.total_tokens);
    const storedMessages = await lossyDatabase.directDatabase<{ role: string; seq: number }[]>`
    select role, seq from messages where conversation_id = ${id} order by seq`;
    expect(storedMessages.map(({ role }) => role)).toEqual(["user", "assistant"]);
    await socket.close();
  },
);

test("a tool result whose commit response was lost is stored once, and pushed to readers", async () => {
  const call = { name: "search_documents", arguments: '{"query":"how to connect a model"}' };
  provider.script("one", { text: "Let me look. ", toolCalls: [call] }, { text: "Found it.", firstDelayMs: 1_500 });
  const { id } = await createConversation(parley, anna, [], { tools: true });
  const socket = await openSocket(parley.url, { token: anna.access_token });
  await socket.request({ type: "subscribe", conversation_id: id });
  const responseLost = lossyDatabase.loseNextResponse(
    "insert into messages (id, conversation_id, seq, role, content, status, parent_id",
    "COMMIT",
  );
  const sendResponse = await parley.fetch(`/api/v1/conversations/${id}/messages`, {
    token: anna.access_token,
    json: { content: "Look it up.", reply: true },
  });
  expect(sendResponse.status).toBe(201);
  await responseLost;
  await socket.waitFor((frame) => frame.type === "message.created" && frame.data?.role === "tool");
  expect(socket.frames.some(({ type }) => type === "message.completed")).toBe(false);
  await socket.waitFor((frame) => frame.type === "message.completed");
  const storedMessages = await lossyDatabase.directDatabase<{ role: string }[]>`
    select role from messages where conversation_id = ${id} order by seq`;
  expect(storedMessages.map(({ role }) => role)).toEqual(["user", "assistant", "tool"]);
  await socket.close();
});

test("a tool message that is appended twice is stored once, but published twice", async () => {
  const publishedEvents: DurableEvent[] = [];
  const bus = {
    publish(channel: string, create: () => Iterable<DurableEvent>) {
      if (channel !== "conversations") publishedEvents.push(...create());
    },
  };
  const database = lossyDatabase.directDatabase;
  const events = createEventLog({ database, changes: createChangeRunner(database), bus: bus as unknown as Bus });
  const { id: conversationId } = await createConversation(parley, anna);
  const message = { id: createId(), conversationId, content: "42", parentId: null, metadata: {} };
  const append = () => events.write(conversationId, (transaction) => appendToolMessage(transaction, message));
  const storedMessages = await append();
  expect(await append()).toEqual(storedMessages);
  expect(publishedEvents).toHaveLength(2);
  expect(publishedEvents[1]).toEqual(publishedEvents[0] as never);
  expect(await database`select 1 from messages where conversation_id = ${conversationId}`).toHaveLength(1);
});
