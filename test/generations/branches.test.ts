import { afterAll, beforeAll, beforeEach, expect, test } from "bun:test";
import type { Account } from "../support/app.ts";
import { type Asking, startAsking } from "./start-asking.ts";

let asking: Asking;
let anna: Account;
let id: string;

beforeAll(async () => {
  asking = await startAsking();
  anna = await asking.parley.register();
});
afterAll(() => asking.stop());
beforeEach(async () => {
  asking.provider.reset();
  ({ id } = await asking.createConversation(anna));
});

/** Sends a message that gets this answer. */
const say = async (content: string, answer: string, parent_id?: string) => {
  asking.provider.script("one", { text: answer });
  const { message, reply } = await asking.say(anna, id, content, { ...(parent_id && { parent_id }) });
  return { question: message.id, answer: reply?.id ?? "" };
};
const regenerate = (messageId: string, answer: string) => {
  asking.provider.script("one", { text: answer });
  return asking.regenerate(anna, id, messageId);
};
const shown = () => asking.readShown().map(({ content }) => content);

test("a conversation without branches is shown in its order", async () => {
  await say("U1", "A1");
  await say("U2", "A2");
  await say("U3", "A3");
  expect(shown()).toEqual(["U1", "A1", "U2", "A2", "U3"]);
});

test("a message with a parent starts a branch there, and the next ones follow it", async () => {
  const first = await say("U1", "A1");
  const second = await say("U2", "A2");
  await say("U3", "A3", first.answer);
  expect(shown()).toEqual(["U1", "A1", "U3"]);
  await say("U4", "A4");
  expect(shown()).toEqual(["U1", "A1", "U3", "A3", "U4"]);
  await say("U5", "A5", second.answer);
  expect(shown()).toEqual(["U1", "A1", "U2", "A2", "U5"]);
  await say("U6", "A6");
  expect(shown()).toEqual(["U1", "A1", "U2", "A2", "U5", "A5", "U6"]);
});

test("a branch from the very beginning shows only what it branches from", async () => {
  const first = await say("U1", "A1");
  await say("U2", "A2");
  await say("U3", "A3", first.question);
  expect(shown()).toEqual(["U1\n\nU3"]);
});

test("another answer stands in the place of the first, which stays and can be gone on from", async () => {
  const first = await say("U1", "A1");
  await say("U2", "A2");
  const other = await regenerate(first.answer, "B1");
  expect(shown()).toEqual(["U1"]);
  expect(other.parent_id).toBe(first.question);
  await say("U3", "A3");
  expect(shown()).toEqual(["U1", "B1", "U3"]);
  await say("U4", "A4", first.answer);
  expect(shown()).toEqual(["U1", "A1", "U4"]);
  await say("U5", "A5", other.id);
  expect(shown()).toEqual(["U1", "B1", "U5"]);
});

test("an edited question keeps its answer, and gets another one beside it", async () => {
  const first = await say("U1", "A1");
  await asking.parley.fetch(`/api/v1/conversations/${id}/messages/${first.question}`, {
    method: "PATCH",
    token: anna.access_token,
    json: { content: "V1" },
  });
  const other = await regenerate(first.question, "B1");
  expect(shown()).toEqual(["V1"]);
  const path = `/api/v1/conversations/${id}/messages`;
  const listed = await asking.parley.fetch(path, { token: anna.access_token });
  const { data } = (await listed.json()) as { data: { id: string; content: string; parent_id: string | null }[] };
  expect(data.map(({ content, parent_id }) => [content, parent_id])).toEqual([
    ["V1", null],
    ["A1", first.question],
    ["B1", first.question],
  ]);
  await say("U2", "A2");
  expect(shown()).toEqual(["V1", "B1", "U2"]);
  expect(other.content).toBe("B1");
});

test("an answer that failed takes no other's place", async () => {
  const first = await say("U1", "A1");
  asking.provider.script("one", { fault: "status", status: 400 });
  expect((await asking.regenerate(anna, id, first.answer)).status).toBe("failed");
  await say("U2", "A2");
  expect(shown()).toEqual(["U1", "A1", "U2"]);
});

test("a branch cannot start at a message of another conversation", async () => {
  const { question } = await say("U1", "A1");
  const other = await asking.createConversation(anna);
  const answer = await asking.parley.fetch(`/api/v1/conversations/${other.id}/messages`, {
    token: anna.access_token,
    json: { content: "x", parent_id: question },
  });
  expect(answer.status).toBe(422);
});

test("a long path is read to its end, over more rows than one look takes", async () => {
  const first = await say("first", "A1");
  await asking.parley.database`
    insert into messages (id, conversation_id, seq, role, author_id, content)
    select gen_random_uuid(), ${id}, ${2} + n, 'user', ${anna.user.id}, 'n' || n from generate_series(1, 350) n`;
  await asking.parley.database`update conversations set last_seq = 352 where id = ${id}`;
  await say("last", "A2");
  const all = shown().join("\n\n").split("\n\n");
  expect(all).toEqual(["first", "A1", ...Array.from({ length: 350 }, (_, n) => `n${n + 1}`), "last"]);
  await say("branch", "A3", first.answer);
  expect(shown()).toEqual(["first", "A1", "branch"]);
  await say("on", "A4");
  expect(shown()).toEqual(["first", "A1", "branch", "A3", "on"]);
});
