import { afterAll, beforeAll, expect, test } from "bun:test";
import { createLoadEvents } from "../../src/events/batched-loads.ts";
import type { DurableEvent } from "../../src/protocol/events.ts";
import { type Account, startApp, type TestApp } from "../support/app.ts";
import { createConversation } from "../support/conversation.ts";

let parley: TestApp;
let anna: Account;
beforeAll(async () => {
  parley = await startApp();
  anna = await parley.register();
});
afterAll(() => parley.stop());

/** Creates a conversation with this many messages, one edited, one deleted, and a changed title. */
async function fill(messages: number): Promise<string> {
  const { id } = await createConversation(parley, anna);
  const path = `/api/v1/conversations/${id}`;
  const token = anna.access_token;
  const sent: string[] = [];
  for (let n = 0; n < messages; n += 1) {
    const response = await parley.fetch(`${path}/messages`, { token, json: { content: `${n} é😀` } });
    sent.push(((await response.json()) as { message: { id: string } }).message.id);
  }
  await parley.fetch(`${path}/messages/${sent[0]}`, { token, method: "DELETE" });
  await parley.fetch(path, { token, method: "PATCH", json: { title: `Title of ${id}` } });
  return id;
}

const listEvents = async (id: string, afterSeq: number): Promise<DurableEvent[]> => {
  const path = `/api/v1/conversations/${id}/events?after_seq=${afterSeq}&limit=200`;
  return ((await (await parley.fetch(path, { token: anna.access_token })).json()) as { data: DurableEvent[] }).data;
};

test("missed events of several conversations are loaded in one query, each conversation's in order", async () => {
  const ids = [await fill(3), await fill(5), await fill(1)] as const;
  const load = createLoadEvents(parley.database);
  const all = await Promise.all(ids.map((id) => listEvents(id, 0)));
  const lastOf = (events: DurableEvent[] = []) => events.at(-1)?.seq ?? 0;
  const loaded = await Promise.all(ids.map((id, n) => load(id, 0, lastOf(all[n]))));
  const part = await load(ids[1], 2, 4);
  expect(loaded).toEqual(all);
  expect(loaded.map((events) => new Set(events.map(({ type }) => type)).size)).toEqual([3, 3, 3]);
  expect(part.map(({ seq }) => seq)).toEqual([3, 4]);
  expect(await Promise.all([load(ids[0], lastOf(all[0]), 100), load(ids[1], lastOf(all[1]), 100)])).toEqual([[], []]);
});
