import { afterAll, beforeAll, beforeEach, expect, test } from "bun:test";
import type { Account } from "../support/app.ts";
import { type ModelApp, startModelApp } from "./start-model-app.ts";

let app: ModelApp;
let anna: Account;
let conversationId: string;

beforeAll(async () => {
  app = await startModelApp();
  anna = await app.parley.register();
});
afterAll(() => app.stop());
beforeEach(async () => {
  app.provider.reset();
  ({ id: conversationId } = await app.createConversation(anna));
});

/** Sends a message, which the model answers with `answer`. */
const sendMessage = async (content: string, answer: string, parent_id?: string) => {
  app.provider.script("one", { text: answer });
  const { message, reply } = await app.sendMessage(anna, conversationId, content, { ...(parent_id && { parent_id }) });
  return { question: message.id, answer: reply?.id ?? "" };
};
const regenerateAnswer = (messageId: string, answer: string) => {
  app.provider.script("one", { text: answer });
  return app.regenerateAnswer(anna, conversationId, messageId);
};
const listReceivedTexts = () => app.getReceivedMessages().map(({ content }) => content);

test("a conversation without branches is sent to the model in order", async () => {
  await sendMessage("U1", "A1");
  await sendMessage("U2", "A2");
  await sendMessage("U3", "A3");
  expect(listReceivedTexts()).toEqual(["U1", "A1", "U2", "A2", "U3"]);
});

test("a message with a parent starts a branch, and later messages continue it", async () => {
  const firstExchange = await sendMessage("U1", "A1");
  const secondExchange = await sendMessage("U2", "A2");
  await sendMessage("U3", "A3", firstExchange.answer);
  expect(listReceivedTexts()).toEqual(["U1", "A1", "U3"]);
  await sendMessage("U4", "A4");
  expect(listReceivedTexts()).toEqual(["U1", "A1", "U3", "A3", "U4"]);
  await sendMessage("U5", "A5", secondExchange.answer);
  expect(listReceivedTexts()).toEqual(["U1", "A1", "U2", "A2", "U5"]);
  await sendMessage("U6", "A6");
  expect(listReceivedTexts()).toEqual(["U1", "A1", "U2", "A2", "U5", "A5", "U6"]);
});

test("a branch from the first message doesn't include the first message's answer", async () => {
  const firstExchange = await sendMessage("U1", "A1");
  await sendMessage("U2", "A2");
  await sendMessage("U3", "A3", firstExchange.question);
  expect(listReceivedTexts()).toEqual(["U1\n\nU3"]);
});

test("a regenerated answer replaces the first one, which can still be continued", async () => {
  const firstExchange = await sendMessage("U1", "A1");
  await sendMessage("U2", "A2");
  const newAnswer = await regenerateAnswer(firstExchange.answer, "B1");
  expect(listReceivedTexts()).toEqual(["U1"]);
  expect(newAnswer.parent_id).toBe(firstExchange.question);
  await sendMessage("U3", "A3");
  expect(listReceivedTexts()).toEqual(["U1", "B1", "U3"]);
  await sendMessage("U4", "A4", firstExchange.answer);
  expect(listReceivedTexts()).toEqual(["U1", "A1", "U4"]);
  await sendMessage("U5", "A5", newAnswer.id);
  expect(listReceivedTexts()).toEqual(["U1", "B1", "U5"]);
});

test("an edited question keeps its first answer when it is answered again", async () => {
  const firstExchange = await sendMessage("U1", "A1");
  await app.parley.fetch(`/api/v1/conversations/${conversationId}/messages/${firstExchange.question}`, {
    method: "PATCH",
    token: anna.access_token,
    json: { content: "V1" },
  });
  const newAnswer = await regenerateAnswer(firstExchange.question, "B1");
  expect(listReceivedTexts()).toEqual(["V1"]);
  const path = `/api/v1/conversations/${conversationId}/messages`;
  const listResponse = await app.parley.fetch(path, { token: anna.access_token });
  const { data } = (await listResponse.json()) as { data: { id: string; content: string; parent_id: string | null }[] };
  expect(data.map(({ content, parent_id }) => [content, parent_id])).toEqual([
    ["V1", null],
    ["A1", firstExchange.question],
    ["B1", firstExchange.question],
  ]);
  await sendMessage("U2", "A2");
  expect(listReceivedTexts()).toEqual(["V1", "B1", "U2"]);
  expect(newAnswer.content).toBe("B1");
});

test("a failed answer doesn't replace an earlier one", async () => {
  const firstExchange = await sendMessage("U1", "A1");
  app.provider.script("one", { fault: "status", status: 400 });
  expect((await app.regenerateAnswer(anna, conversationId, firstExchange.answer)).status).toBe("failed");
  await sendMessage("U2", "A2");
  expect(listReceivedTexts()).toEqual(["U1", "A1", "U2"]);
});

test("a branch can't start at a message in another conversation", async () => {
  const { question } = await sendMessage("U1", "A1");
  const otherConversation = await app.createConversation(anna);
  const response = await app.parley.fetch(`/api/v1/conversations/${otherConversation.id}/messages`, {
    token: anna.access_token,
    json: { content: "x", parent_id: question },
  });
  expect(response.status).toBe(422);
});

test("a branch is sent completely even if it has more messages than one query returns", async () => {
  const firstExchange = await sendMessage("first", "A1");
  await app.parley.database`
    insert into messages (id, conversation_id, seq, role, author_id, content)
    select gen_random_uuid(), ${conversationId}, ${2} + n, 'user', ${anna.user.id}, 'n' || n from generate_series(1, 350) n`;
  await app.parley.database`update conversations set last_seq = 352 where id = ${conversationId}`;
  await sendMessage("last", "A2");
  const receivedTexts = listReceivedTexts().join("\n\n").split("\n\n");
  expect(receivedTexts).toEqual(["first", "A1", ...Array.from({ length: 350 }, (_, n) => `n${n + 1}`), "last"]);
  await sendMessage("branch", "A3", firstExchange.answer);
  expect(listReceivedTexts()).toEqual(["first", "A1", "branch"]);
  await sendMessage("on", "A4");
  expect(listReceivedTexts()).toEqual(["first", "A1", "branch", "A3", "on"]);
});
