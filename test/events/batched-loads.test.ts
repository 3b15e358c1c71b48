import { afterAll, beforeAll, expect, test } from "bun:test";
import { createEventLoader } from "../../src/events/batched-loads.ts";
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

/** Creates a conversation with this many messages, deletes the first message, and changes the title. */
async function createHistory(messageCount: number): Promise<string> {
  const { id } = await createConversation(parley, anna);
  const path = `/api/v1/conversations/${id}`;
  const token = anna.access_token;
  const messageIds: string[] = [];
  for (let n = 0; n < messageCount; n += 1) {
    const response = await parley.fetch(`${path}/messages`, { token, json: { content: `${n} é😀` } });
    messageIds.push(((await response.json()) as { message: { id: string } }).message.id);
  }
  await parley.fetch(`${path}/messages/${messageIds[0]}`, { token, method: "DELETE" });
  await parley.fetch(path, { token, method: "PATCH", json: { title: `Title of ${id}` } });
  return id;
}

const listEvents = async (id: string, afterSeq: number): Promise<DurableEvent[]> => {
  const path = `/api/v1/conversations/${id}/events?after_seq=${afterSeq}&limit=200`;
  return ((await (await parley.fetch(path, { token: anna.access_token })).json()) as { data: DurableEvent[] }).data;
};

test("concurrent loads return the missed events of their own conversation, in order", async () => {
  const ids = [await createHistory(3), await createHistory(5), await createHistory(1)] as const;
  const loadEvents = createEventLoader(parley.database);
  const allEvents = await Promise.all(ids.map((id) => listEvents(id, 0)));
  const getLastSeq = (events: DurableEvent[] = []) => events.at(-1)?.seq ?? 0;
  const loadedEvents = await Promise.all(ids.map((id, n) => loadEvents(id, 0, getLastSeq(allEvents[n]))));
  const rangeEvents = await loadEvents(ids[1], 2, 4);
  expect(loadedEvents).toEqual(allEvents);
  expect(loadedEvents.map((events) => new Set(events.map(({ type }) => type)).size)).toEqual([3, 3, 3]);
  expect(rangeEvents.map(({ seq }) => seq)).toEqual([3, 4]);
  expect(
    await Promise.all([
      loadEvents(ids[0], getLastSeq(allEvents[0]), 100),
      loadEvents(ids[1], getLastSeq(allEvents[1]), 100),
    ]),
  ).toEqual([[], []]);
});
