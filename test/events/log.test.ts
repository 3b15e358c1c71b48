import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { Value } from "@sinclair/typebox/value";
import type { SentMessage } from "../../src/modules/messages/model.ts";
import { type DurableEvent, durableEvents } from "../../src/protocol/events.ts";
import { type Account, startApp, type TestApp } from "../support/app.ts";
import { createConversation } from "../support/conversation.ts";
import { createRestClient, type RestClient } from "../support/rest.ts";
import { openSocket } from "../support/socket.ts";

let parley: TestApp;
let annaAccount: Account;
let benAccount: Account;
let anna: RestClient;
let ben: RestClient;

beforeAll(async () => {
  parley = await startApp();
  annaAccount = await parley.register(undefined, "Anna");
  benAccount = await parley.register(undefined, "Ben");
  [anna, ben] = [createRestClient(parley, annaAccount), createRestClient(parley, benAccount)];
});
afterAll(() => parley.stop());

type AppendedEvent = { conversation_id: string; seq: number; type: string; message_id: string | null; at: Date };

/** Makes on_events_appended record events in a table. */
async function startRecording(): Promise<void> {
  await parley.database`
    create table appended (conversation_id uuid, seq bigint, type text, message_id uuid, at timestamptz, xid xid8)`;
  await parley.database`
    create or replace function on_events_appended(
      p_conversations uuid[], p_seqs bigint[], p_types text[], p_messages uuid[], p_data jsonb[], p_at timestamptz)
    returns void language plpgsql as $$
    begin
      insert into appended
      select e.*, p_at, pg_current_xact_id() from unnest(p_conversations, p_seqs, p_types, p_messages) e;
    end $$`;
}

async function stopRecording(): Promise<void> {
  await parley.database`
    create or replace function on_events_appended(
      p_conversations uuid[], p_seqs bigint[], p_types text[], p_messages uuid[], p_data jsonb[], p_at timestamptz)
    returns void language plpgsql as 'begin end'`;
  await parley.database`drop table appended`;
}

const listAppendedEvents = async (id: string): Promise<AppendedEvent[]> => [
  ...(await parley.database<AppendedEvent[]>`
    select conversation_id, seq, type, message_id, at from appended where conversation_id = ${id} order by seq`),
];

const listEvents = async (id: string): Promise<DurableEvent[]> =>
  (await anna.get<{ data: DurableEvent[] }>(`/conversations/${id}/events?limit=200`)).body.data;

async function waitUntilAnswered(id: string): Promise<void> {
  const path = `/conversations/${id}/messages`;
  for (;;) {
    const { body } = await anna.get<{ data: { status: string }[] }>(path);
    if (body.data.every(({ status }) => status !== "streaming")) return;
    await Bun.sleep(10);
  }
}

/** Creates a conversation with events of every type except `conversation.deleted`. */
async function createEventsOfAllTypes(): Promise<string> {
  const { id } = await createConversation(parley, annaAccount, [benAccount], { title: "Before" });
  const path = `/conversations/${id}`;
  const sendMessage = (rest: RestClient, content: string, reply: boolean) =>
    rest.request<SentMessage>("POST", `${path}/messages`, { content, reply });
  const { body } = await sendMessage(anna, "Is anybody there?", true);
  await waitUntilAnswered(id);
  await anna.request("POST", `${path}/messages/${body.reply?.id}/regenerate`);
  await waitUntilAnswered(id);
  const sendResponses = await Promise.all(
    Array.from({ length: 20 }, (_, n) => sendMessage(n % 2 ? anna : ben, `${n}`, false)),
  );
  await anna.request("PATCH", `${path}/messages/${body.message.id}`, { content: "Is somebody there?" });
  await ben.request("DELETE", `${path}/messages/${sendResponses[0]?.body.message.id}`);
  await anna.request("PATCH", path, { title: "After" });
  await anna.request("POST", `${path}/members`, { user_id: benAccount.user.id, role: "viewer" });
  await ben.request("DELETE", `${path}/members/${benAccount.user.id}`);
  return id;
}

describe("the event catalog", () => {
  test("matches pushed and replayed events of every type", async () => {
    const socket = await openSocket(parley.url, { token: annaAccount.access_token });
    const { id } = await createConversation(parley, annaAccount, [benAccount]);
    await socket.request({ type: "subscribe", conversation_id: id });
    const otherId = await createEventsOfAllTypes();
    const pushedEvents: DurableEvent[] = [];
    await anna.request("PATCH", `/conversations/${id}`, { title: "x" });
    await anna.request("DELETE", `/conversations/${id}/members/${benAccount.user.id}`);
    await anna.request("DELETE", `/conversations/${id}`);
    await socket.waitFor(({ type }) => type === "conversation.deleted");
    pushedEvents.push(...(socket.frames.filter(({ seq, data }) => seq && data) as unknown as DurableEvent[]));
    const allEvents = [...(await listEvents(otherId)), ...pushedEvents];
    expect(new Set(allEvents.map(({ type }) => type))).toEqual(
      new Set(Object.keys(durableEvents) as DurableEvent["type"][]),
    );
    for (const event of allEvents)
      expect({ event, errors: [...Value.Errors(durableEvents[event.type], event)] }).toEqual({ event, errors: [] });
    await socket.close();
  });
});

describe("on_events_appended", () => {
  test("receives every durable event once, with its sequence number and time", async () => {
    await startRecording();
    try {
      const id = await createEventsOfAllTypes();
      const appendedEvents = await listAppendedEvents(id);
      const events = await listEvents(id);
      expect(appendedEvents.map(({ seq }) => Number(seq))).toEqual(events.map(({ seq }) => seq));
      expect(appendedEvents.map(({ type }) => type)).toEqual(events.map(({ type }) => type));
      expect(appendedEvents.map(({ at }) => at.toISOString())).toEqual(events.map(({ at }) => at));
      expect(appendedEvents.map(({ message_id }) => message_id)).toEqual(
        events.map(({ type, data }) => (type.startsWith("message.") ? (data as { id: string }).id : null)),
      );
      await anna.request("DELETE", `/conversations/${id}`);
      expect((await listAppendedEvents(id)).at(-1)).toMatchObject({
        type: "conversation.deleted",
        seq: events.length + 1,
      });
    } finally {
      await stopRecording();
    }
  });

  test("receives the events of a deleted user's conversations", async () => {
    const deletedUser = await parley.register(undefined, "Dan");
    const sharedConversation = await createConversation(parley, deletedUser, [annaAccount]);
    const unsharedConversation = await createConversation(parley, deletedUser);
    await startRecording();
    try {
      await parley.fetch("/api/v1/me", { method: "DELETE", token: deletedUser.access_token });
      expect((await listAppendedEvents(sharedConversation.id)).map(({ type }) => type)).toEqual([
        "member.added",
        "member.removed",
      ]);
      expect((await listAppendedEvents(unsharedConversation.id)).map(({ type }) => type)).toEqual([
        "conversation.deleted",
      ]);
    } finally {
      await stopRecording();
    }
  });

  test("rolls back the event if it fails, so nothing is pushed and no sequence number is skipped", async () => {
    const { id } = await createConversation(parley, annaAccount);
    const socket = await openSocket(parley.url, { token: annaAccount.access_token });
    await socket.request({ type: "subscribe", conversation_id: id });
    await startRecording();
    await parley.database`alter table appended add check (type <> 'conversation.updated' and type <> 'message.created')`;
    try {
      expect((await anna.request("PATCH", `/conversations/${id}`, { title: "lost" })).status).toBe(500);
      expect((await anna.request("POST", `/conversations/${id}/messages`, { content: "lost" })).status).toBe(500);
    } finally {
      await stopRecording();
    }
    expect((await anna.request("PATCH", `/conversations/${id}`, { title: "kept" })).status).toBe(200);
    expect((await listEvents(id)).map(({ seq, type }) => ({ seq, type }))).toEqual([
      { seq: 1, type: "conversation.updated" },
    ]);
    await socket.waitFor(({ seq }) => seq === 1);
    expect(socket.frames.filter(({ seq }) => seq !== undefined).map(({ seq }) => seq)).toEqual([1]);
    await socket.close();
  });
});

describe("an event's time", () => {
  test("increases with the sequence number, even if a transaction had to wait for the lock", async () => {
    const { id } = await createConversation(parley, annaAccount);
    const path = `/conversations/${id}`;
    let pendingRequests: Promise<unknown>[] = [];
    await parley.database.begin(async (sql) => {
      await sql`select 1 from conversations where id = ${id} for update`;
      // These requests wait for the lock, which this transaction holds.
      pendingRequests = [
        anna.request("PATCH", path, { title: "late" }),
        anna.request("POST", `${path}/messages`, { content: "late", reply: false }),
      ];
      await Bun.sleep(300);
      await sql`select append_events(array[${id}::uuid], t.first_seqs, array['conversation.updated'], null, null, t.taken_at)
        from take_positions(array[${id}::uuid], array[1], array[0]) t`;
      await Bun.sleep(50);
    });
    await Promise.all(pendingRequests);
    const timesMs = (await listEvents(id)).map(({ at }) => Date.parse(at));
    expect(timesMs).toHaveLength(3);
    expect((timesMs[1] ?? 0) - (timesMs[0] ?? 0)).toBeGreaterThanOrEqual(50);
    expect(timesMs).toEqual([...timesMs].sort((a, b) => a - b));
  });

  test("matches the times in its message, generation and conversation", async () => {
    const id = await createEventsOfAllTypes();
    const events = await listEvents(id);
    const [row] = await parley.database<{ updated_at: Date; mismatches: number; generations: number }[]>`
      select updated_at,
        (select count(*)::int from messages m where m.conversation_id = c.id and m.status = 'complete' and m.updated_at <> coalesce(
          (select max(e.at) from events e where e.conversation_id = c.id and e.message_id = m.id), m.created_at)) as mismatches,
        (select count(*)::int from generations g join events e on e.conversation_id = g.conversation_id
          and e.message_id = g.message_id and e.type = 'message.completed' and e.at = g.finished_at
          where g.conversation_id = c.id) as generations
      from conversations c where id = ${id}`;
    expect(row).toEqual({ updated_at: new Date(events.at(-1)?.at ?? 0), mismatches: 0, generations: 2 });
  });
});
