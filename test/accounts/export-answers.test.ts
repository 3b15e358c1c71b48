import { afterAll, beforeAll, expect, test } from "bun:test";
import { deleteFinished, FINISHED_RETENTION_DAYS } from "../../src/modules/generations/retention.ts";
import { type ModelApp, type StoredMessage, startModelApp } from "../generations/start-model-app.ts";
import type { Account } from "../support/app.ts";
import { createRestClient } from "../support/rest.ts";
import { openSocket } from "../support/socket.ts";

let app: ModelApp;
beforeAll(async () => {
  app = await startModelApp();
});
afterAll(() => app.stop());

type Export = { answers: { id: string; content: string }[] };
const listAnswers = async (account: Account) =>
  (await createRestClient(app.parley, account).get<Export>("/me/export")).body.answers.map(({ content }) => content);

test("an export includes the answers that the user regenerated in a group, even long after the user left it", async () => {
  const [anna, ben] = [await app.parley.register(), await app.parley.register()];
  const { id } = await app.createConversation(anna, [ben], { kind: "group" });
  const scriptAnswer = (text: string) => app.provider.script("one", { text });
  scriptAnswer("First.");
  const { message } = await app.sendMessage(ben, id, "What is it?");
  scriptAnswer("Again.");
  const benAnswer = await app.regenerateAnswer(ben, id, message.id);
  scriptAnswer("For Anna.");
  const annaAnswer = await app.regenerateAnswer(anna, id, message.id);
  expect([benAnswer.status, annaAnswer.status]).toEqual(["complete", "complete"]);

  const rest = createRestClient(app.parley, anna);
  await rest.request("DELETE", `/conversations/${id}/members/${ben.user.id}`);
  const { database } = app.parley;
  await database`
    update generations set finished_at = now() - ${FINISHED_RETENTION_DAYS + 1} * interval '1 day' where conversation_id = ${id}`;
  await deleteFinished(database, AbortSignal.timeout(20_000));
  expect(await database`select 1 from generations where conversation_id = ${id}`).toHaveLength(0);
  expect(await listAnswers(ben)).toEqual(["First.", "Again."]);
  expect(await listAnswers(anna)).toEqual([]);
});

test("members can't see who regenerated an answer", async () => {
  const [anna, ben] = [await app.parley.register(), await app.parley.register()];
  const { id } = await app.createConversation(anna, [ben], { kind: "group" });
  const socket = await openSocket(app.parley.url, { token: anna.access_token });
  await socket.request({ type: "subscribe", conversation_id: id });
  const { message } = await app.sendMessage(ben, id, "What is it?");
  const regeneratedAnswer = await app.regenerateAnswer(ben, id, message.id);
  const [row] = await app.parley.database`select metadata from messages where id = ${regeneratedAnswer.id}`;
  expect(row?.metadata).toEqual({ models: ["compatible/one"], requested_by: ben.user.id });
  expect(regeneratedAnswer.metadata).toEqual({ models: ["compatible/one"] });

  const rest = createRestClient(app.parley, anna);
  const { body: page } = await rest.get<{ data: StoredMessage[] }>(`/conversations/${id}/messages`);
  expect(page.data.map(({ metadata }) => metadata.requested_by)).toEqual([undefined, undefined, undefined]);
  const { body: events } = await rest.get<unknown>(`/conversations/${id}/events?after_seq=0`);
  await socket.waitFor(({ type, data }) => type === "message.completed" && data?.id === regeneratedAnswer.id);
  for (const text of [JSON.stringify(events), JSON.stringify(socket.frames)]) {
    expect(text).toContain(regeneratedAnswer.id);
    expect(text).not.toContain("requested_by");
  }
  await socket.close();
});
