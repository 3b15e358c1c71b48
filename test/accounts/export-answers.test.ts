import { afterAll, beforeAll, expect, test } from "bun:test";
import { deleteFinished, FINISHED_RETENTION_DAYS } from "../../src/modules/generations/retention.ts";
import { type ModelApp, type StoredMessage, startModelApp } from "../generations/start-model-app.ts";
import type { Account } from "../support/app.ts";
import { createRest } from "../support/rest.ts";
import { openSocket } from "../support/socket.ts";

let app: ModelApp;
beforeAll(async () => {
  app = await startModelApp();
});
afterAll(() => app.stop());

type Export = { answers: { id: string; content: string }[] };
const listAnswers = async (account: Account) =>
  (await createRest(app.parley, account).get<Export>("/me/export")).body.answers.map(({ content }) => content);

test("an export includes answers that the user requested again, even long after leaving the group", async () => {
  const [anna, ben] = [await app.parley.register(), await app.parley.register()];
  const { id } = await app.createConversation(anna, [ben], { kind: "group" });
  const answer = (text: string) => app.provider.script("one", { text });
  answer("First.");
  const { message } = await app.say(ben, id, "What is it?");
  answer("Again.");
  const again = await app.regenerate(ben, id, message.id);
  answer("For Anna.");
  const other = await app.regenerate(anna, id, message.id);
  expect([again.status, other.status]).toEqual(["complete", "complete"]);

  const rest = createRest(app.parley, anna);
  await rest.request("DELETE", `/conversations/${id}/members/${ben.user.id}`);
  const { database } = app.parley;
  await database`
    update generations set finished_at = now() - ${FINISHED_RETENTION_DAYS + 1} * interval '1 day' where conversation_id = ${id}`;
  await deleteFinished(database, AbortSignal.timeout(20_000));
  expect(await database`select 1 from generations where conversation_id = ${id}`).toHaveLength(0);
  expect(await listAnswers(ben)).toEqual(["First.", "Again."]);
  expect(await listAnswers(anna)).toEqual([]);
});

test("doesn't show who requested an answer again", async () => {
  const [anna, ben] = [await app.parley.register(), await app.parley.register()];
  const { id } = await app.createConversation(anna, [ben], { kind: "group" });
  const socket = await openSocket(app.parley.url, { token: anna.access_token });
  await socket.request({ type: "subscribe", conversation_id: id });
  const { message } = await app.say(ben, id, "What is it?");
  const again = await app.regenerate(ben, id, message.id);
  const [row] = await app.parley.database`select metadata from messages where id = ${again.id}`;
  expect(row?.metadata).toEqual({ models: ["compatible/one"], requested_by: ben.user.id });
  expect(again.metadata).toEqual({ models: ["compatible/one"] });

  const rest = createRest(app.parley, anna);
  const { body: page } = await rest.get<{ data: StoredMessage[] }>(`/conversations/${id}/messages`);
  expect(page.data.map(({ metadata }) => metadata.requested_by)).toEqual([undefined, undefined, undefined]);
  const { body: events } = await rest.get<unknown>(`/conversations/${id}/events?after_seq=0`);
  await socket.waitFor(({ type, data }) => type === "message.completed" && data?.id === again.id);
  for (const text of [JSON.stringify(events), JSON.stringify(socket.frames)]) {
    expect(text).toContain(again.id);
    expect(text).not.toContain("requested_by");
  }
  await socket.close();
});
