import { afterAll, beforeAll, beforeEach, expect, test } from "bun:test";
import type { Account } from "../support/app.ts";
import { openSocket } from "../support/socket.ts";
import { type ModelApp, startModelApp } from "./start-model-app.ts";

let app: ModelApp;
let anna: Account;
let ben: Account;
let id: string;
beforeAll(async () => {
  app = await startModelApp();
  [anna, ben] = [await app.parley.register(), await app.parley.register()];
});
beforeEach(async () => {
  app.provider.reset();
  id = (await app.createConversation(anna, [ben], { kind: "group" })).id;
});
afterAll(() => app.stop());

const slow = { text: "Slow.", firstDelayMs: 700 };
const regenerate = async (account: Account, messageId: string) => {
  const path = `/api/v1/conversations/${id}/messages/${messageId}/regenerate`;
  const answer = await app.parley.fetch(path, { method: "POST", token: account.access_token });
  const { code } = (await answer.json()) as { code?: string };
  return { status: answer.status, code };
};
const count = (all: { status: number }[], status: number) => all.filter((each) => each.status === status).length;

test("of several users who regenerate the same answer, one succeeds and the others get 409", async () => {
  app.provider.script("one", { text: "First." }, slow);
  const { message, reply } = await app.say(anna, id, "What is it?");
  const names = [message.id, reply?.id ?? "", message.id, reply?.id ?? ""];
  const all = await Promise.all(names.map((name, n) => regenerate(n % 2 === 0 ? anna : ben, name)));
  expect([count(all, 201), count(all, 409)]).toEqual([1, 3]);
  expect(all.filter(({ status }) => status === 409).every(({ code }) => code === "conflict")).toBe(true);
  await app.waitUntil(() => (app.provider.requestsOf("one").length === 2 ? true : undefined));
  // The answer in progress has another sibling, whose id is used here.
  expect((await regenerate(ben, reply?.id ?? "")).status).toBe(409);
  await app.waitUntil(async () => {
    const rows = await app.parley
      .database`select 1 from messages where conversation_id = ${id} and status = 'streaming'`;
    return rows.length === 0 ? true : undefined;
  });
  expect(app.provider.requestsOf("one")).toHaveLength(2);
  expect((await regenerate(ben, message.id)).status).toBe(201);
});

test("the same applies to frames, also while the first answer is in progress", async () => {
  app.provider.script("one", slow);
  const socket = await openSocket(app.parley.url, { token: anna.access_token });
  const sent = await socket.request({
    type: "message.send",
    conversation_id: id,
    client_message_id: "once",
    content: "What is it?",
    reply: true,
  });
  const message_id = (sent.message as { id: string }).id;
  expect(await socket.request({ type: "generation.regenerate", message_id })).toMatchObject({ code: "conflict" });
  await app.waitUntil(async () => {
    const rows = await app.parley.database`
      select 1 from messages where conversation_id = ${id} and status = 'complete' and role = 'assistant'`;
    return rows.length === 1 ? true : undefined;
  });
  const frames = [1, 2].map(() => socket.request({ type: "generation.regenerate", message_id }));
  expect((await Promise.all(frames)).map(({ type }) => type).sort()).toEqual(["ack", "error"]);
  await socket.close();
});

test("two questions of one conversation can be regenerated concurrently", async () => {
  app.provider.script("one", { text: "First." }, { text: "Second." }, slow);
  const one = await app.say(anna, id, "What is it?");
  const two = await app.say(anna, id, "And that?");
  const all = await Promise.all([regenerate(anna, one.message.id), regenerate(anna, two.message.id)]);
  expect(count(all, 201)).toBe(2);
});
