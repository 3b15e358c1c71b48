import { afterAll, beforeAll, expect, test } from "bun:test";
import { createId } from "../../src/lib/id.ts";
import { insertAnswer } from "../support/answer.ts";
import { startApp, type TestApp } from "../support/app.ts";
import { createRestClient, type RestClient } from "../support/rest.ts";

let parley: TestApp;
let anna: RestClient;
let ben: RestClient;
beforeAll(async () => {
  // These tests change the database directly, which the read cache wouldn't notice.
  parley = await startApp({ config: { READ_CACHE: "off" } });
  const accounts = await Promise.all([1, 2].map(() => parley.register()));
  [anna, ben] = accounts.map((account) => createRestClient(parley, account)) as [RestClient, RestClient];
});
afterAll(() => parley.stop());

/** Runs the statements of the previous release, whose instances can still be running during an upgrade. */
const olderInstance = {
  createConversation: async (ownerId: string) => {
    const id = createId();
    await parley.database`
      with created as (
        insert into conversations (id, title, kind, reply_mode) values (${id}, 'Old', 'group', 'never') returning id
      )
      insert into members (conversation_id, user_id, role) select id, ${ownerId}, 'owner' from created`;
    return id;
  },
  addMember: (id: string, userId: string, role: string) => parley.database`
    insert into members (conversation_id, user_id, role, last_read_seq) select ${id}, ${userId}, ${role}, 0`,
  appendEvents: (id: string, types: string[]) =>
    parley.database.begin(async (sql) => {
      for (const type of types) {
        const [allocated] = await sql<{ seq: number; at: Date }[]>`
          select first_seqs[1] as seq, taken_at as at from take_seqs(${[id]}::uuid[], array[1])`;
        const [seq, at, messageId] = [allocated?.seq ?? 0, allocated?.at ?? null, createId()];
        if (type === "message.created")
          await sql`
            insert into messages (id, conversation_id, seq, role, content) values (${messageId}, ${id}, ${seq}, 'tool', 'x')`;
        const data = type === "message.created" ? null : sql.json({ user_id: anna.id });
        await sql`
          select append_events(array[${id}::uuid], array[${seq}::bigint], array[${type}::text], array[${messageId}::uuid],
            array[${data}::jsonb], ${at}::timestamptz)`;
      }
    }),
  markAsRead: (id: string, userId: string, seq: number) => parley.database`
    update members set last_read_seq = ${seq} where conversation_id = ${id} and user_id = ${userId}`,
  deleteMessage: (id: string, messageId: string) => parley.database`
    update messages set content = '', updated_at = now(), deleted_at = now()
    where conversation_id = ${id} and id = ${messageId}`,
};

type Unread = { unread: number; last_seq: number };
const fetchUnread = async (user: RestClient, id: string) =>
  (await user.get<Unread>(`/conversations/${id}`)).body.unread;

test("messages appended by an older instance are counted as unread, and move the conversation to the top", async () => {
  const id = await olderInstance.createConversation(anna.id);
  await olderInstance.addMember(id, ben.id, "member");
  await parley.database`
    update conversations set updated_at = '2026-01-01', listed_at = '2026-01-01' where id = ${id}`;
  await olderInstance.appendEvents(id, ["message.created", "member.added", "message.created"]);
  expect(await fetchUnread(ben, id)).toBe(2);
  const [row] = await parley.database`
    select active_at > '2026-01-02' as is_moved from member_activity where conversation_id = ${id} and user_id = ${ben.id}`;
  expect(row).toEqual({ is_moved: true });
  // Newer instances don't count the message twice.
  for (let n = 0; n < 15; n++) await anna.request("POST", `/conversations/${id}/messages`, { content: "x" });
  expect(await fetchUnread(ben, id)).toBe(17);
  expect(await fetchUnread(anna, id)).toBe(0);
});

test("a read position set by an older instance changes the unread count", async () => {
  const id = await olderInstance.createConversation(anna.id);
  await olderInstance.addMember(id, ben.id, "member");
  await olderInstance.appendEvents(id, Array(5).fill("message.created"));
  await olderInstance.markAsRead(id, ben.id, 3);
  expect(await fetchUnread(ben, id)).toBe(2);
  await olderInstance.appendEvents(id, ["member.added", "message.created"]);
  expect(await fetchUnread(ben, id)).toBe(3);
  await olderInstance.markAsRead(id, ben.id, 7);
  expect(await fetchUnread(ben, id)).toBe(0);
});

test("a conversation created by an older instance counts only towards its first owner's quota", async () => {
  const id = await olderInstance.createConversation(anna.id);
  await olderInstance.addMember(id, ben.id, "owner");
  const rows = await parley.database<{ user_id: string; is_creator: boolean }[]>`
    select user_id, is_creator from members where conversation_id = ${id}`;
  expect(new Map(rows.map((row) => [row.user_id, row.is_creator]))).toEqual(
    new Map([
      [anna.id, true],
      [ben.id, false],
    ]),
  );
});

test("a message deleted by an older instance loses all its content", async () => {
  const id = await olderInstance.createConversation(anna.id);
  await olderInstance.appendEvents(id, ["message.created"]);
  const [message] = await parley.database<{ id: string }[]>`
    update messages set reasoning = 'A secret.', output = '{"a":"secret"}', reply_options = '{"reasoning_effort":"low"}'
    where conversation_id = ${id} returning id`;
  const messageId = message?.id ?? "";
  const answer = await insertAnswer(parley.database, { conversationId: id, seq: 2, parentId: messageId });
  await parley.database`update generations set reply_format = '{"schema":{}}' where id = ${answer.id}`;
  await olderInstance.deleteMessage(id, messageId);
  const { body } = await anna.get(`/conversations/${id}/messages/${messageId}`);
  expect(body).toMatchObject({ content: "", reasoning: null, output: null });
  const [storedMessage] = await parley.database`
    select reasoning, output, reply_options from messages where conversation_id = ${id} and id = ${messageId}`;
  expect(storedMessage).toEqual({ reasoning: null, output: null, reply_options: null });
  const [generation] = await parley.database`select reply_format from generations where id = ${answer.id}`;
  expect(generation).toEqual({ reply_format: null });
});
