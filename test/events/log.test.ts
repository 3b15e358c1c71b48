import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { Value } from "@sinclair/typebox/value";
import type { SentMessage } from "../../src/modules/messages/model.ts";
import { type DurableEvent, durableEvents } from "../../src/protocol/events.ts";
import { type Account, startApp, type TestApp } from "../support/app.ts";
import { createConversation } from "../support/conversation.ts";
import { createRest, type Rest } from "../support/rest.ts";
import { openSocket } from "../support/socket.ts";

let parley: TestApp;
let annaAccount: Account;
let benAccount: Account;
let anna: Rest;
let ben: Rest;

beforeAll(async () => {
  parley = await startApp();
  annaAccount = await parley.register(undefined, "Anna");
  benAccount = await parley.register(undefined, "Ben");
  [anna, ben] = [createRest(parley, annaAccount), createRest(parley, benAccount)];
});
afterAll(() => parley.stop());

type Appended = { conversation_id: string; seq: number; type: string; message_id: string | null; at: Date };

/** Records the events of the extension point in a table of this test. */
async function recordAppended(): Promise<void> {
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

async function forgetAppended(): Promise<void> {
  await parley.database`
    create or replace function on_events_appended(
      p_conversations uuid[], p_seqs bigint[], p_types text[], p_messages uuid[], p_data jsonb[], p_at timestamptz)
    returns void language plpgsql as 'begin end'`;
  await parley.database`drop table appended`;
}

const listAppended = async (id: string): Promise<Appended[]> => [
  ...(await parley.database<Appended[]>`
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

/** Causes every kind of event in a conversation, except its deletion. */
async function causeAllEvents(): Promise<string> {
  const { id } = await createConversation(parley, annaAccount, [benAccount], { title: "Before" });
  const path = `/conversations/${id}`;
  const send = (rest: Rest, content: string, reply: boolean) =>
    rest.request<SentMessage>("POST", `${path}/messages`, { content, reply });
  const { body } = await send(anna, "Is anybody there?", true);
  await waitUntilAnswered(id);
  await anna.request("POST", `${path}/messages/${body.reply?.id}/regenerate`);
  await waitUntilAnswered(id);
  const sent = await Promise.all(Array.from({ length: 20 }, (_, n) => send(n % 2 ? anna : ben, `${n}`, false)));
  await anna.request("PATCH", `${path}/messages/${body.message.id}`, { content: "Is somebody there?" });
  await ben.request("DELETE", `${path}/messages/${sent[0]?.body.message.id}`);
  await anna.request("PATCH", path, { title: "After" });
  await anna.request("POST", `${path}/members`, { user_id: benAccount.user.id, role: "viewer" });
  await ben.request("DELETE", `${path}/members/${benAccount.user.id}`);
  return id;
}

describe("the event catalog", () => {
  test("describes pushed and replayed events of every type", async () => {
    const socket = await openSocket(parley.url, { token: annaAccount.access_token });
    const { id } = await createConversation(parley, annaAccount, [benAccount]);
    await socket.request({ type: "subscribe", conversation_id: id });
    const other = await causeAllEvents();
    const pushed: DurableEvent[] = [];
    await anna.request("PATCH", `/conversations/${id}`, { title: "x" });
    await anna.request("DELETE", `/conversations/${id}/members/${benAccount.user.id}`);
    await anna.request("DELETE", `/conversations/${id}`);
    await socket.waitFor(({ type }) => type === "conversation.deleted");
    pushed.push(...(socket.frames.filter(({ seq, data }) => seq && data) as unknown as DurableEvent[]));
    const all = [...(await listEvents(other)), ...pushed];
    expect(new Set(all.map(({ type }) => type))).toEqual(new Set(Object.keys(durableEvents) as DurableEvent["type"][]));
    for (const event of all)
      expect({ event, errors: [...Value.Errors(durableEvents[event.type], event)] }).toEqual({ event, errors: [] });
    await socket.close();
  });
});

describe("the extension point", () => {
  test("gets every durable event in the event's transaction, once, with number and time", async () => {
    await recordAppended();
    try {
      const id = await causeAllEvents();
      const appended = await listAppended(id);
      const events = await listEvents(id);
      expect(appended.map(({ seq }) => Number(seq))).toEqual(events.map(({ seq }) => seq));
      expect(appended.map(({ type }) => type)).toEqual(events.map(({ type }) => type));
      expect(appended.map(({ at }) => at.toISOString())).toEqual(events.map(({ at }) => at));
      expect(appended.map(({ message_id }) => message_id)).toEqual(
        events.map(({ type, data }) => (type.startsWith("message.") ? (data as { id: string }).id : null)),
      );
      await anna.request("DELETE", `/conversations/${id}`);
      expect((await listAppended(id)).at(-1)).toMatchObject({ type: "conversation.deleted", seq: events.length + 1 });
    } finally {
      await forgetAppended();
    }
  });

  test("gets the events of a deleted user's conversations", async () => {
    const gone = await parley.register(undefined, "Gone");
    const shared = await createConversation(parley, gone, [annaAccount]);
    const alone = await createConversation(parley, gone);
    await recordAppended();
    try {
      await parley.fetch("/api/v1/me", { method: "DELETE", token: gone.access_token });
      expect((await listAppended(shared.id)).map(({ type }) => type)).toEqual(["member.added", "member.removed"]);
      expect((await listAppended(alone.id)).map(({ type }) => type)).toEqual(["conversation.deleted"]);
    } finally {
      await forgetAppended();
    }
  });

  test("a failing extension rolls the event back: nothing is stored or pushed, and no number is lost", async () => {
    const { id } = await createConversation(parley, annaAccount);
    const socket = await openSocket(parley.url, { token: annaAccount.access_token });
    await socket.request({ type: "subscribe", conversation_id: id });
    await recordAppended();
    await parley.database`alter table appended add check (type <> 'conversation.updated' and type <> 'message.created')`;
    try {
      expect((await anna.request("PATCH", `/conversations/${id}`, { title: "lost" })).status).toBe(500);
      expect((await anna.request("POST", `/conversations/${id}/messages`, { content: "lost" })).status).toBe(500);
    } finally {
      await forgetAppended();
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
  test("increases with the number, also for a transaction that started long before it got the lock", async () => {
    const { id } = await createConversation(parley, annaAccount);
    const path = `/conversations/${id}`;
    let waiting: Promise<unknown>[] = [];
    await parley.database.begin(async (sql) => {
      await sql`select 1 from conversations where id = ${id} for update`;
      // These start now, and wait for the lock.
      waiting = [
        anna.request("PATCH", path, { title: "late" }),
        anna.request("POST", `${path}/messages`, { content: "late", reply: false }),
      ];
      await Bun.sleep(300);
      await sql`select append_events(array[${id}::uuid], t.first_seqs, array['conversation.updated'], null, null, t.taken_at)
        from take_positions(array[${id}::uuid], array[1], array[0]) t`;
      await Bun.sleep(50);
    });
    await Promise.all(waiting);
    const times = (await listEvents(id)).map(({ at }) => Date.parse(at));
    expect(times).toHaveLength(3);
    expect((times[1] ?? 0) - (times[0] ?? 0)).toBeGreaterThanOrEqual(50);
    expect(times).toEqual([...times].sort((a, b) => a - b));
  });

  test("matches the times of its subject and of the conversation", async () => {
    const id = await causeAllEvents();
    const events = await listEvents(id);
    const [row] = await parley.database<{ updated_at: Date; wrong: number; generations: number }[]>`
      select updated_at,
        (select count(*)::int from messages m where m.conversation_id = c.id and m.status = 'complete' and m.updated_at <> coalesce(
          (select max(e.at) from events e where e.conversation_id = c.id and e.message_id = m.id), m.created_at)) as wrong,
        (select count(*)::int from generations g join events e on e.conversation_id = g.conversation_id
          and e.message_id = g.message_id and e.type = 'message.completed' and e.at = g.finished_at
          where g.conversation_id = c.id) as generations
      from conversations c where id = ${id}`;
    expect(row).toEqual({ updated_at: new Date(events.at(-1)?.at ?? 0), wrong: 0, generations: 2 });
  });
});
