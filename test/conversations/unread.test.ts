import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import fc from "fast-check";
import { createId } from "../../src/lib/id.ts";
import type { SentMessage } from "../../src/modules/messages/model.ts";
import type { Conversation } from "../../src/protocol/conversation.ts";
import { startApp, type TestApp } from "../support/app.ts";
import { createConversation } from "../support/conversation.ts";
import { scaleRuns } from "../support/property-tests.ts";
import { createRestClient, type RestClient } from "../support/rest.ts";
import { openSocket, type TestSocket } from "../support/socket.ts";

let parley: TestApp;
let users: RestClient[];
let sockets: TestSocket[];

beforeAll(async () => {
  // These tests change the database directly, which the read cache wouldn't notice.
  parley = await startApp({ config: { READ_CACHE: "off" } });
  const accounts = await Promise.all(["Anna", "Ben", "Cleo"].map((name) => parley.register(undefined, name)));
  users = accounts.map((account) => createRestClient(parley, account));
  sockets = await Promise.all(accounts.map(({ access_token }) => openSocket(parley.url, { token: access_token })));
});
afterAll(() => parley.stop());

const getUser = (userIndex: number) => users[userIndex] as RestClient;
const createGroup = async () => {
  const [owner, ...members] = users.map(({ account }) => account);
  return (await createConversation(parley, owner as RestClient["account"], members)).id;
};

const sendMessage = async (userIndex: number, id: string): Promise<SentMessage["message"]> =>
  (
    await getUser(userIndex).request<SentMessage>("POST", `/conversations/${id}/messages`, {
      content: "x",
      reply: false,
    })
  ).body.message;

/** Returns the unread count, which must be the same in the conversation and in the list. */
async function findUnread(userIndex: number, id: string): Promise<number> {
  const { body: conversation } = await getUser(userIndex).get<Conversation>(`/conversations/${id}`);
  const { body: list } = await getUser(userIndex).get<{ data: Conversation[] }>("/conversations");
  expect(list.data.find((row) => row.id === id)).toEqual(conversation);
  return conversation.unread;
}

const markAsRead = async (userIndex: number, id: string, seq: number) =>
  expect(await sockets[userIndex]?.request({ type: "read", id: createId(), conversation_id: id, seq })).toMatchObject({
    type: "ack",
  });

describe("the unread count", () => {
  test("includes other users' messages after the user's last one, except deleted ones", async () => {
    const id = await createGroup();
    expect(await findUnread(0, id)).toBe(0);
    const firstMessage = await sendMessage(1, id);
    await sendMessage(1, id);
    expect(await findUnread(0, id)).toBe(2);
    await getUser(1).request("DELETE", `/conversations/${id}/messages/${firstMessage.id}`);
    expect(await findUnread(0, id)).toBe(1);
    const ownMessage = await sendMessage(0, id);
    expect(await findUnread(0, id)).toBe(0);
    const { body } = await getUser(0).get<Conversation>(`/conversations/${id}`);
    expect(body.last_read_seq).toBe(ownMessage.seq);
    expect(await findUnread(2, id)).toBe(2);
  });

  test("is correct for several messages in one commit", async () => {
    const id = await createGroup();
    const sentMessages = await Promise.all([0, 1, 0, 1, 0].map((userIndex) => sendMessage(userIndex, id)));
    await getUser(2).request("POST", `/conversations/${id}/messages`, { content: "x", reply: true });
    const isAnswered = async () =>
      (await parley.database`select 1 from generations where conversation_id = ${id} and status = 'finished'`).length >
      0;
    while (!(await isAnswered())) await Bun.sleep(20);
    const findLastSeq = (userIndex: number) =>
      Math.max(...sentMessages.filter((_, index) => index % 2 === userIndex).map(({ seq }) => seq));
    const countAfter = (seq: number) => sentMessages.filter((message) => message.seq > seq).length;
    // Cleo's message and the answer to it are unread too.
    expect(await findUnread(0, id)).toBe(countAfter(findLastSeq(0)) + 2);
    expect(await findUnread(1, id)).toBe(countAfter(findLastSeq(1)) + 2);
    expect(await findUnread(2, id)).toBe(1);
  });

  /** `position` selects a message: 0 is the first, 1 the last. */
  type Step = { userIndex: number; kind: "send" | "delete" | "read"; position: number };
  const arbitraryStep = fc.record<Step>({
    userIndex: fc.integer({ min: 0, max: 2 }),
    kind: fc.constantFrom("send", "send", "send", "delete", "read"),
    position: fc.double({ min: 0, max: 1, noNaN: true }),
  });

  test("matches a recount of the messages after random changes", async () => {
    const property = fc.asyncProperty(fc.array(arbitraryStep, { minLength: 1, maxLength: 25 }), async (steps) => {
      const id = await createGroup();
      const messages: { id: string; seq: number; authorIndex: number; isDeleted: boolean }[] = [];
      const readSeqs = [0, 0, 0];
      for (const { userIndex, kind, position } of steps) {
        if (kind === "send") {
          const message = await sendMessage(userIndex, id);
          messages.push({ ...message, authorIndex: userIndex, isDeleted: false });
          readSeqs[userIndex] = message.seq;
        }
        const message = messages[Math.floor(position * messages.length * 0.999)];
        if (!message || kind === "send") continue;
        if (kind === "read") {
          await markAsRead(userIndex, id, message.seq);
          readSeqs[userIndex] = Math.max(readSeqs[userIndex] ?? 0, message.seq);
        } else if (!message.isDeleted) {
          await getUser(message.authorIndex).request("DELETE", `/conversations/${id}/messages/${message.id}`);
          message.isDeleted = true;
        }
      }
      for (const userIndex of [0, 1, 2]) {
        const expected = messages.filter(
          (m) => m.seq > (readSeqs[userIndex] ?? 0) && m.authorIndex !== userIndex && !m.isDeleted,
        ).length;
        expect(await findUnread(userIndex, id)).toBe(expected);
      }
    });
    await fc.assert(property, { numRuns: scaleRuns(12) });
  }, 60_000);

  test("is exact up to its maximum of 1000", async () => {
    const id = await createGroup();
    await parley.database`
      insert into messages (id, conversation_id, seq, role, author_id, content)
      select gen_random_uuid(), ${id}, n + 100, 'user', ${getUser(1).id}, 'x' from generate_series(1, 5000) n`;
    await parley.database`update conversations set last_seq = 5100, message_count = 5000 where id = ${id}`;
    expect(await findUnread(0, id)).toBe(1_000);
    for (const [seq, unread] of [
      [100, 1_000],
      [2_600, 1_000],
      [4_100, 1_000],
      [4_101, 999],
      [5_099, 1],
      [5_100, 0],
    ] as const) {
      await markAsRead(0, id, seq);
      expect(await findUnread(0, id)).toBe(unread);
    }
    await markAsRead(2, id, 3_100);
    const deleteBetween = (from: number, to: number) =>
      parley.database`
        update messages set deleted_at = now() where conversation_id = ${id} and seq between ${from} and ${to}`;
    await deleteBetween(3_500, 4_499);
    expect(await findUnread(2, id)).toBe(1_000);
    await markAsRead(2, id, 3_110);
    expect(await findUnread(2, id)).toBe(990);
    await deleteBetween(3_111, 3_499);
    expect(await findUnread(2, id)).toBe(601);
  });

  test("is exact after two thousand messages are deleted", async () => {
    const id = await createGroup();
    await parley.database`
      insert into messages (id, conversation_id, seq, role, author_id, content, deleted_at)
      select gen_random_uuid(), ${id}, n + 100, 'user', ${getUser(1).id}, 'x', case when n <= 2000 then now() end
      from generate_series(1, 2600) n`;
    await parley.database`update conversations set last_seq = 2700, message_count = 2600 where id = ${id}`;
    expect(await findUnread(0, id)).toBe(600);
    await markAsRead(0, id, 200);
    expect(await findUnread(0, id)).toBe(600);
    await markAsRead(0, id, 2_200);
    expect(await findUnread(0, id)).toBe(500);
  });

  test("is preserved for a member who rejoins", async () => {
    const id = await createGroup();
    for (let n = 0; n < 5; n += 1) await sendMessage(1, id);
    await sendMessage(0, id);
    await getUser(0).request("DELETE", `/conversations/${id}/members/${getUser(1).id}`);
    await sendMessage(2, id);
    await getUser(0).request("POST", `/conversations/${id}/members`, { user_id: getUser(1).id });
    expect(await findUnread(1, id)).toBe(2);
    const [row] = await parley.database`
      select written_bytes from members where conversation_id = ${id} and user_id = ${getUser(1).id}`;
    expect(row).toEqual({ written_bytes: 5 });
    expect(await parley.database`select 1 from former_members where conversation_id = ${id}`).toHaveLength(0);
  });
});
