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

/** Sends a message that gets this answer. */
const say = async (content: string, answer: string, parent_id?: string) => {
  app.provider.script("one", { text: answer });
  const { message, reply } = await app.say(anna, id, content, { ...(parent_id && { parent_id }) });
  return { question: message.id, answer: reply?.id ?? "" };
};
const regenerate = (messageId: string, answer: string) => {
  app.provider.script("one", { text: answer });
  return app.regenerate(anna, id, messageId);
};
const listReceived = () => app.readReceived().map(({ content }) => content);

test("a conversation without branches is sent in its order", async () => {
  await say("U1", "A1");
  await say("U2", "A2");
  await say("U3", "A3");
  expect(listReceived()).toEqual(["U1", "A1", "U2", "A2", "U3"]);
});

test("a message with a parent starts a branch there, and later ones follow it", async () => {
  const first = await say("U1", "A1");
  const second = await say("U2", "A2");
  await say("U3", "A3", first.answer);
  expect(listReceived()).toEqual(["U1", "A1", "U3"]);
  await say("U4", "A4");
  expect(listReceived()).toEqual(["U1", "A1", "U3", "A3", "U4"]);
  await say("U5", "A5", second.answer);
  expect(listReceived()).toEqual(["U1", "A1", "U2", "A2", "U5"]);
  await say("U6", "A6");
  expect(listReceived()).toEqual(["U1", "A1", "U2", "A2", "U5", "A5", "U6"]);
});

test("a branch from the first message contains only what it branches from", async () => {
  const first = await say("U1", "A1");
  await say("U2", "A2");
  await say("U3", "A3", first.question);
  expect(listReceived()).toEqual(["U1\n\nU3"]);
});

test("a regenerated answer replaces the first, which stays and can be continued", async () => {
  const first = await say("U1", "A1");
  await say("U2", "A2");
  const other = await regenerate(first.answer, "B1");
  expect(listReceived()).toEqual(["U1"]);
  expect(other.parent_id).toBe(first.question);
  await say("U3", "A3");
  expect(listReceived()).toEqual(["U1", "B1", "U3"]);
  await say("U4", "A4", first.answer);
  expect(listReceived()).toEqual(["U1", "A1", "U4"]);
  await say("U5", "A5", other.id);
  expect(listReceived()).toEqual(["U1", "B1", "U5"]);
});

test("an edited question keeps its answer, and gets another one", async () => {
  const first = await say("U1", "A1");
  await app.parley.fetch(`/api/v1/conversations/${id}/messages/${first.question}`, {
    method: "PATCH",
    token: anna.access_token,
    json: { content: "V1" },
  });
  const other = await regenerate(first.question, "B1");
  expect(listReceived()).toEqual(["V1"]);
  const path = `/api/v1/conversations/${id}/messages`;
  const listed = await app.parley.fetch(path, { token: anna.access_token });
  const { data } = (await listed.json()) as { data: { id: string; content: string; parent_id: string | null }[] };
  expect(data.map(({ content, parent_id }) => [content, parent_id])).toEqual([
    ["V1", null],
    ["A1", first.question],
    ["B1", first.question],
  ]);
  await say("U2", "A2");
  expect(listReceived()).toEqual(["V1", "B1", "U2"]);
  expect(other.content).toBe("B1");
});

test("a failed answer doesn't replace another", async () => {
  const first = await say("U1", "A1");
  app.provider.script("one", { fault: "status", status: 400 });
  expect((await app.regenerate(anna, id, first.answer)).status).toBe("failed");
  await say("U2", "A2");
  expect(listReceived()).toEqual(["U1", "A1", "U2"]);
});

test("a branch can't start at a message of another conversation", async () => {
  const { question } = await say("U1", "A1");
  const other = await app.createConversation(anna);
  const answer = await app.parley.fetch(`/api/v1/conversations/${other.id}/messages`, {
    token: anna.access_token,
    json: { content: "x", parent_id: question },
  });
  expect(answer.status).toBe(422);
});

test("a long path is read to its end, over more rows than one query returns", async () => {
  const first = await say("first", "A1");
  await app.parley.database`
    insert into messages (id, conversation_id, seq, role, author_id, content)
    select gen_random_uuid(), ${id}, ${2} + n, 'user', ${anna.user.id}, 'n' || n from generate_series(1, 350) n`;
  await app.parley.database`update conversations set last_seq = 352 where id = ${id}`;
  await say("last", "A2");
  const all = listReceived().join("\n\n").split("\n\n");
  expect(all).toEqual(["first", "A1", ...Array.from({ length: 350 }, (_, n) => `n${n + 1}`), "last"]);
  await say("branch", "A3", first.answer);
  expect(listReceived()).toEqual(["first", "A1", "branch"]);
  await say("on", "A4");
  expect(listReceived()).toEqual(["first", "A1", "branch", "A3", "on"]);
});
