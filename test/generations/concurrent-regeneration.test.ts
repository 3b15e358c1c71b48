import { afterAll, beforeAll, beforeEach, expect, test } from "bun:test";
import type { Account } from "../support/app.ts";
import { openSocket } from "../support/socket.ts";
import { type ModelApp, startModelApp } from "./start-model-app.ts";

let app: ModelApp;
let anna: Account;
let ben: Account;
let conversationId: string;
beforeAll(async () => {
  app = await startModelApp();
  [anna, ben] = [await app.parley.register(), await app.parley.register()];
});
beforeEach(async () => {
  app.provider.reset();
  conversationId = (await app.createConversation(anna, [ben], { kind: "group" })).id;
});
afterAll(() => app.stop());

const slowScript = { text: "Slow.", firstDelayMs: 700 };
const regenerateAnswer = async (account: Account, messageId: string) => {
  const path = `/api/v1/conversations/${conversationId}/messages/${messageId}/regenerate`;
  const response = await app.parley.fetch(path, { method: "POST", token: account.access_token });
  const { code } = (await response.json()) as { code?: string };
  return { status: response.status, code };
};
const countResponses = (responses: { status: number }[], status: number) =>
  responses.filter((response) => response.status === status).length;

test("if several users regenerate an answer at the same time, one request succeeds and the others receive 409", async () => {
  app.provider.script("one", { text: "First." }, slowScript);
  const { message, reply } = await app.sendMessage(anna, conversationId, "What is it?");
  const ids = [message.id, reply?.id ?? "", message.id, reply?.id ?? ""];
  const responses = await Promise.all(ids.map((messageId, n) => regenerateAnswer(n % 2 === 0 ? anna : ben, messageId)));
  expect([countResponses(responses, 201), countResponses(responses, 409)]).toEqual([1, 3]);
  expect(responses.filter(({ status }) => status === 409).every(({ code }) => code === "conflict")).toBe(true);
  await app.waitForValue(() => (app.provider.listRequests("one").length === 2 ? true : undefined));
  // Regenerating the first answer also conflicts with the answer in progress.
  expect((await regenerateAnswer(ben, reply?.id ?? "")).status).toBe(409);
  await app.waitForValue(async () => {
    const rows = await app.parley
      .database`select 1 from messages where conversation_id = ${conversationId} and status = 'streaming'`;
    return rows.length === 0 ? true : undefined;
  });
  expect(app.provider.listRequests("one")).toHaveLength(2);
  expect((await regenerateAnswer(ben, message.id)).status).toBe(201);
});

test("regenerating over a WebSocket fails with `conflict` while an answer to the message is in progress", async () => {
  app.provider.script("one", slowScript);
  const socket = await openSocket(app.parley.url, { token: anna.access_token });
  const ack = await socket.request({
    type: "message.send",
    conversation_id: conversationId,
    client_message_id: "once",
    content: "What is it?",
    reply: true,
  });
  const message_id = (ack.message as { id: string }).id;
  expect(await socket.request({ type: "generation.regenerate", message_id })).toMatchObject({ code: "conflict" });
  await app.waitForValue(async () => {
    const rows = await app.parley.database`
      select 1 from messages where conversation_id = ${conversationId} and status = 'complete' and role = 'assistant'`;
    return rows.length === 1 ? true : undefined;
  });
  const responses = [1, 2].map(() => socket.request({ type: "generation.regenerate", message_id }));
  expect((await Promise.all(responses)).map(({ type }) => type).sort()).toEqual(["ack", "error"]);
  await socket.close();
});

test("the answers to two questions in a conversation can be regenerated at the same time", async () => {
  app.provider.script("one", { text: "First." }, { text: "Second." }, slowScript);
  const firstExchange = await app.sendMessage(anna, conversationId, "What is it?");
  const secondExchange = await app.sendMessage(anna, conversationId, "And that?");
  const responses = await Promise.all([
    regenerateAnswer(anna, firstExchange.message.id),
    regenerateAnswer(anna, secondExchange.message.id),
  ]);
  expect(countResponses(responses, 201)).toBe(2);
});
