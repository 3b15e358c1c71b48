import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import type { Sql } from "../../src/db/client.ts";
import { fitFinalState } from "../../src/modules/generations/final-states.ts";
import { finishAnswers } from "../../src/modules/generations/finisher.ts";
import type { FinalState } from "../../src/modules/generations/queries.ts";
import type { Message } from "../../src/protocol/message.ts";
import { insertAnswer } from "../support/answer.ts";
import { type Account, startApp, type TestApp } from "../support/app.ts";
import { createConversation } from "../support/conversation.ts";
import { createRestClient, type RestClient } from "../support/rest.ts";
import { openSocket } from "../support/socket.ts";

const usage = {
  input_tokens: 1_000,
  output_tokens: 200,
  input_tokens_details: { cached_tokens: 900 },
  output_tokens_details: { reasoning_tokens: 150 },
};
const tokens = { input_tokens: 1_000, output_tokens: 200, cached_input_tokens: 900, reasoning_tokens: 150 };

/** A provider that reports token details. */
const provider = Bun.serve({
  port: 0,
  fetch() {
    const response = { id: "resp_1", object: "response", status: "completed", output: [], usage };
    const events = [
      { type: "response.output_text.delta", item_id: "msg_1", output_index: 0, content_index: 0, delta: "Counted." },
      { type: "response.completed", response },
    ].map((event) => `event: ${event.type}\ndata: ${JSON.stringify(event)}\n\n`);
    return new Response(events.join(""), { headers: { "content-type": "text/event-stream" } });
  },
});
let parley: TestApp;
let anna: Account;
let restClient: RestClient;
let conversation_id: string;
beforeAll(async () => {
  parley = await startApp({
    config: {
      OPENAI_API_KEY: "sk-test",
      OPENAI_BASE_URL: `http://127.0.0.1:${provider.port}/v1`,
      AI_MODELS: "openai/one",
      AI_PRICES: "openai/one=1/2",
    },
  });
  anna = await parley.register();
  restClient = createRestClient(parley, anna);
  conversation_id = (await createConversation(parley, anna)).id;
});
afterAll(async () => {
  await parley.stop();
  await provider.stop(true);
});

test("an answer's usage includes cached and reasoning tokens in all responses and events", async () => {
  const socket = await openSocket(parley.url, { token: anna.access_token });
  await socket.request({ type: "subscribe", conversation_id });
  await socket.request({
    type: "message.send",
    conversation_id,
    client_message_id: "1",
    content: "Count.",
    reply: true,
  });
  const completedFrame = await socket.waitFor(({ type }) => type === "message.completed");
  const shownUsage = completedFrame.data?.usage as Message["usage"];
  expect(shownUsage).toMatchObject(tokens);
  const { body: message } = await restClient.get<Message>(
    `/conversations/${conversation_id}/messages/${completedFrame.data?.id}`,
  );
  expect(message.usage).toEqual(shownUsage);
  const { body: events } = await restClient.get<{ data: { type: string; data: Message }[] }>(
    `/conversations/${conversation_id}/events?after_seq=0`,
  );
  expect(events.data.find(({ type }) => type === "message.completed")?.data.usage).toEqual(shownUsage);
  const { body: exported } = await restClient.get<{ answers: Message[] }>("/me/export");
  expect(exported.answers.find(({ id }) => id === message.id)?.usage).toEqual(shownUsage);
  await socket.close();
});

test("a /v1 answer is stored with cached and reasoning tokens", async () => {
  const { id } = await createConversation(parley, anna);
  const response = await parley.fetch("/v1/chat/completions", {
    token: anna.access_token,
    json: {
      model: "openai/one",
      messages: [{ role: "user", content: "Count." }],
      metadata: { conversation_id: id },
    },
  });
  expect(response.status).toBe(200);
  const { body } = await restClient.get<{ data: Message[] }>(`/conversations/${id}/messages`);
  expect(body.data.find(({ role }) => role === "assistant")?.usage).toMatchObject(tokens);
});

test("token details that weren't stored are shown as 0", async () => {
  const { id } = await createConversation(parley, anna);
  const { message_id } = await insertAnswer(parley.database, { conversationId: id, status: "finished", text: "Old." });
  await parley.database`update messages set input_tokens = 5, output_tokens = 7 where id = ${message_id}`;
  const { body } = await restClient.get<Message>(`/conversations/${id}/messages/${message_id}`);
  expect(body.usage).toEqual({
    input_tokens: 5,
    output_tokens: 7,
    cost_usd: null,
    cached_input_tokens: 0,
    reasoning_tokens: 0,
  });
});

describe("the final state of an answer", () => {
  const finalState: FinalState = {
    content: "Done.",
    status: "complete",
    finishReason: "stop",
    model: null,
    models: [],
    usage: tokens,
    costUsd: null,
    error: null,
  };
  const insertRunningAnswer = (id: string) =>
    insertAnswer(parley.database, { conversationId: id, requestedBy: anna.user.id });
  async function createEmptyConversation(): Promise<string> {
    const { id } = await createConversation(parley, anna);
    await parley.database`update conversations set last_seq = 1 where id = ${id}`;
    return id;
  }
  const findUsage = async (sql: Sql, id: string) =>
    (
      await sql<Record<string, unknown>[]>`
      select status, input_tokens, output_tokens, cached_input_tokens, reasoning_tokens, cost_usd from messages
      where id = ${id}`
    )[0];

  test("is stored with the highest possible values if token counts or costs exceed their columns' range", async () => {
    const hugeUsage = {
      input_tokens: 6e15,
      output_tokens: 2 ** 31,
      cached_input_tokens: 3e9,
      reasoning_tokens: 2 ** 31,
    };
    const generation = await insertRunningAnswer(await createEmptyConversation());
    const fittedFinal = fitFinalState({ ...finalState, usage: hugeUsage, costUsd: 1e9 });
    const [outcome] = await finishAnswers(parley.database, [{ generation, attempt: 1, final: fittedFinal }], false);
    expect(outcome).toMatchObject({ outcome: "finished" });
    const INT_MAX = 2 ** 31 - 1;
    expect(await findUsage(parley.database, generation.message_id)).toEqual({
      status: "complete",
      input_tokens: INT_MAX,
      output_tokens: INT_MAX,
      cached_input_tokens: INT_MAX,
      reasoning_tokens: INT_MAX,
      cost_usd: "999999.00000000",
    });
    expect(fitFinalState({ ...finalState, costUsd: Number.NaN }).costUsd).toBeNull();
  });

  test("is stored without token details if an instance of the previous release stores it", async () => {
    const {
      id,
      conversation_id: conversationId,
      fence,
      message_id,
    } = await insertRunningAnswer(await createEmptyConversation());
    const [row] = await parley.database`
      select outcome from finish_answers(array[${conversationId}::uuid], array[${id}::uuid], array[${fence}::int], array[1],
        array['Done.'], array['complete'], array['stop'], array[null::text], array[5], array[7], array[null::numeric],
        array[null::text], array[null::text], array['{}'], false)`;
    expect(row?.outcome).toBe("finished");
    expect(await findUsage(parley.database, message_id)).toMatchObject({
      status: "complete",
      input_tokens: 5,
      output_tokens: 7,
      cached_input_tokens: null,
      reasoning_tokens: null,
    });
  });
});
