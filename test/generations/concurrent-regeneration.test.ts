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

const slowScript = { text: "Slow.", firstDelayMs: 700 };
const regenerate = async (account: Account, messageId: string) => {
  const path = `/api/v1/conversations/${id}/messages/${messageId}/regenerate`;
  const response = await app.parley.fetch(path, { method: "POST", token: account.access_token });
  const { code } = (await response.json()) as { code?: string };
  return { status: response.status, code };
};
const countStatus = (all: { status: number }[], status: number) =>
  all.filter((response) => response.status === status).length;

test("if several users regenerate an answer at the same time, one succeeds and the others get 409", async () => {
  app.provider.script("one", { text: "First." }, slowScript);
  const { message, reply } = await app.sendMessage(anna, id, "What is it?");
  const ids = [message.id, reply?.id ?? "", message.id, reply?.id ?? ""];
  const responses = await Promise.all(ids.map((messageId, n) => regenerate(n % 2 === 0 ? anna : ben, messageId)));
  expect([countStatus(responses, 201), countStatus(responses, 409)]).toEqual([1, 3]);
  expect(responses.filter(({ status }) => status === 409).every(({ code }) => code === "conflict")).toBe(true);
  await app.waitUntil(() => (app.provider.listRequests("one").length === 2 ? true : undefined));
  // Regenerating the first answer also conflicts with the answer in progress.
  expect((await regenerate(ben, reply?.id ?? "")).status).toBe(409);
  await app.waitUntil(async () => {
    const rows = await app.parley
      .database`select 1 from messages where conversation_id = ${id} and status = 'streaming'`;
    return rows.length === 0 ? true : undefined;
  });
  expect(app.provider.listRequests("one")).toHaveLength(2);
  expect((await regenerate(ben, message.id)).status).toBe(201);
});

test("WebSocket requests also fail with `conflict`, even while the first answer is in progress", async () => {
  app.provider.script("one", slowScript);
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

test("the answers to two questions in a conversation can be regenerated at the same time", async () => {
  app.provider.script("one", { text: "First." }, { text: "Second." }, slowScript);
  const first = await app.sendMessage(anna, id, "What is it?");
  const second = await app.sendMessage(anna, id, "And that?");
  const responses = await Promise.all([regenerate(anna, first.message.id), regenerate(anna, second.message.id)]);
  expect(countStatus(responses, 201)).toBe(2);
});
