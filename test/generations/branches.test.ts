import { afterAll, beforeAll, beforeEach, expect, test } from "bun:test";
import type { Account } from "../support/app.ts";
import { type ModelApp, startModelApp } from "./start-model-app.ts";

let app: ModelApp;
let anna: Account;
let id: string;

beforeAll(async () => {
  app = await startModelApp();
  anna = await app.parley.register();
});
afterAll(() => app.stop());
beforeEach(async () => {
  app.provider.reset();
  ({ id } = await app.createConversation(anna));
});

/** Sends a message, which the model answers with `answer`. */
const sendMessage = async (content: string, answer: string, parent_id?: string) => {
  app.provider.script("one", { text: answer });
  const { message, reply } = await app.sendMessage(anna, id, content, { ...(parent_id && { parent_id }) });
  return { question: message.id, answer: reply?.id ?? "" };
};
const regenerate = (messageId: string, answer: string) => {
  app.provider.script("one", { text: answer });
  return app.regenerate(anna, id, messageId);
};
const listReceivedTexts = () => app.getReceivedMessages().map(({ content }) => content);

test("a conversation without branches is sent to the model in order", async () => {
  await sendMessage("U1", "A1");
  await sendMessage("U2", "A2");
  await sendMessage("U3", "A3");
  expect(listReceivedTexts()).toEqual(["U1", "A1", "U2", "A2", "U3"]);
});

test("a message with a parent starts a branch, and later messages follow it", async () => {
  const first = await sendMessage("U1", "A1");
  const second = await sendMessage("U2", "A2");
  await sendMessage("U3", "A3", first.answer);
  expect(listReceivedTexts()).toEqual(["U1", "A1", "U3"]);
  await sendMessage("U4", "A4");
  expect(listReceivedTexts()).toEqual(["U1", "A1", "U3", "A3", "U4"]);
  await sendMessage("U5", "A5", second.answer);
  expect(listReceivedTexts()).toEqual(["U1", "A1", "U2", "A2", "U5"]);
  await sendMessage("U6", "A6");
  expect(listReceivedTexts()).toEqual(["U1", "A1", "U2", "A2", "U5", "A5", "U6"]);
});

test("a branch from the first message doesn't contain that message's answer", async () => {
  const first = await sendMessage("U1", "A1");
  await sendMessage("U2", "A2");
  await sendMessage("U3", "A3", first.question);
  expect(listReceivedTexts()).toEqual(["U1\n\nU3"]);
});

test("a regenerated answer replaces the first one, which can still be continued", async () => {
  const first = await sendMessage("U1", "A1");
  await sendMessage("U2", "A2");
  const regenerated = await regenerate(first.answer, "B1");
  expect(listReceivedTexts()).toEqual(["U1"]);
  expect(regenerated.parent_id).toBe(first.question);
  await sendMessage("U3", "A3");
  expect(listReceivedTexts()).toEqual(["U1", "B1", "U3"]);
  await sendMessage("U4", "A4", first.answer);
  expect(listReceivedTexts()).toEqual(["U1", "A1", "U4"]);
  await sendMessage("U5", "A5", regenerated.id);
  expect(listReceivedTexts()).toEqual(["U1", "B1", "U5"]);
});

test("an edited question keeps its answer when it is answered again", async () => {
  const first = await sendMessage("U1", "A1");
  await app.parley.fetch(`/api/v1/conversations/${id}/messages/${first.question}`, {
    method: "PATCH",
    token: anna.access_token,
    json: { content: "V1" },
  });
  const regenerated = await regenerate(first.question, "B1");
  expect(listReceivedTexts()).toEqual(["V1"]);
  const path = `/api/v1/conversations/${id}/messages`;
  const listed = await app.parley.fetch(path, { token: anna.access_token });
  const { data } = (await listed.json()) as { data: { id: string; content: string; parent_id: string | null }[] };
  expect(data.map(({ content, parent_id }) => [content, parent_id])).toEqual([
    ["V1", null],
    ["A1", first.question],
    ["B1", first.question],
  ]);
  await sendMessage("U2", "A2");
  expect(listReceivedTexts()).toEqual(["V1", "B1", "U2"]);
  expect(regenerated.content).toBe("B1");
});

test("a failed answer doesn't replace an earlier one", async () => {
  const first = await sendMessage("U1", "A1");
  app.provider.script("one", { fault: "status", status: 400 });
  expect((await app.regenerate(anna, id, first.answer)).status).toBe("failed");
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

test("a path is sent completely even if it has more messages than one query returns", async () => {
  const first = await sendMessage("first", "A1");
  await app.parley.database`
    insert into messages (id, conversation_id, seq, role, author_id, content)
    select gen_random_uuid(), ${id}, ${2} + n, 'user', ${anna.user.id}, 'n' || n from generate_series(1, 350) n`;
  await app.parley.database`update conversations set last_seq = 352 where id = ${id}`;
  await sendMessage("last", "A2");
  const all = listReceivedTexts().join("\n\n").split("\n\n");
  expect(all).toEqual(["first", "A1", ...Array.from({ length: 350 }, (_, n) => `n${n + 1}`), "last"]);
  await sendMessage("branch", "A3", first.answer);
  expect(listReceivedTexts()).toEqual(["first", "A1", "branch"]);
  await sendMessage("on", "A4");
  expect(listReceivedTexts()).toEqual(["first", "A1", "branch", "A3", "on"]);
});
