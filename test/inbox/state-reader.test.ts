import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import type { Database } from "../../src/db/client.ts";
import { createId } from "../../src/lib/id.ts";
import type { InboxListener } from "../../src/modules/inbox/inbox-users.ts";
import { SENT_STATES_MAX } from "../../src/modules/inbox/sent-states.ts";
import { createInbox, type Inbox } from "../../src/modules/inbox/service.ts";
import type { Bus, ConversationsMessage } from "../../src/realtime/bus.ts";
import { createMemoryBus } from "../../src/realtime/bus-memory.ts";
import { checkPush } from "../support/check-pushes.ts";
import type { InboxFrame } from "../support/inbox.ts";
import { silentLog } from "../support/log.ts";
import { createTestDatabase } from "../support/postgres.ts";
import { waitUntil } from "../support/wait-until.ts";

type Listener = InboxListener & { frames: InboxFrame[] };

/** A part of the statement that reads the states of inboxes. */
const STATE_QUERY_PART = "p (conversation_id, user_id)";
/** A part of the statement that reads the members of conversations. */
const MEMBER_QUERY_PART = "with ordinality as i (id, position)";

let database: Database;
/** The SQL statements that inboxes have sent. */
const statements: string[] = [];
/** The statements whose results have arrived. */
const completedStatements: string[] = [];
/** Delays the result of a statement that contains `text` until the promise is settled. */
let delay: { text: string; until: Promise<unknown> } | null = null;
const bus = createMemoryBus({ log: silentLog });
let inbox: Inbox;
const openListeners: Listener[] = [];

/** Wraps a database to record its statements. */
const recordStatements = (database: Database): Database =>
  new Proxy(database, {
    apply(target, self, args: unknown[]) {
      const text = Array.isArray(args[0]) ? args[0].join("$") : "";
      const query = Reflect.apply(target, self, args);
      // Fragments of statements don't start with `select`.
      if (!/^\s*select/.test(text)) return query;
      statements.push(text);
      const until = delay && text.includes(delay.text) ? delay.until : null;
      return query.then(async (rows: unknown) => {
        completedStatements.push(text);
        await until;
        return rows;
      });
    },
  });

/** Lists the statements caused by messages, but not those caused by subscriptions. */
const listQueries = () =>
  statements.filter((text) => text.includes(STATE_QUERY_PART) || text.includes(MEMBER_QUERY_PART));

beforeAll(async () => {
  ({ database } = await createTestDatabase());
});
beforeEach(() => {
  inbox = createInbox({ database: recordStatements(database), bus, log: silentLog, onPushed() {} });
});
afterEach(() => {
  for (const listener of openListeners.splice(0)) inbox.unsubscribe(listener);
  delay = null;
});
afterAll(() => database.end({ timeout: 1 }));

async function createUsers(count: number): Promise<string[]> {
  const ids = Array.from({ length: count }, createId);
  await database`insert into users (id, email, email_key, display_name) select id, id, id, 'Somebody'
    from unnest(${ids}::text[]::uuid[]) id`;
  return ids;
}

async function createConversations(count: number, members: string[]): Promise<string[]> {
  const ids = Array.from({ length: count }, createId);
  await database`insert into conversations (id, title, kind, reply_mode, metadata, last_seq, message_count)
    select id, 'Test', 'group', 'never', '{}', 1, 1 from unnest(${ids}::uuid[]) id`;
  await database`insert into members (conversation_id, user_id, role)
    select c, u, 'member' from unnest(${ids}::uuid[]) c, unnest(${members}::uuid[]) u`;
  return ids;
}

async function subscribeListener(userId: string): Promise<Listener> {
  const frames: InboxFrame[] = [];
  const listener = {
    userId,
    frames,
    send(text: string) {
      const frame = JSON.parse(text) as InboxFrame;
      checkPush(frame);
      frames.push(frame);
    },
  };
  openListeners.push(listener);
  await inbox.subscribe(listener, () => {});
  return listener;
}

const publishMessages = (...messages: ConversationsMessage[]) => bus.publish("conversations", () => messages);
const createMessageEvent = (conversation_id: string, seq = 1): ConversationsMessage => ({
  type: "conversation.changed",
  conversation_id,
  event: "message.created",
  seq,
  at: new Date().toISOString(),
});

describe("inboxes query the database:", () => {
  test("twice for a thousand messages in one conversation, no matter how many inboxes are subscribed", async () => {
    const users = await createUsers(300);
    const [id = ""] = await createConversations(1, users);
    const listeners = await Promise.all(users.slice(0, 100).map(subscribeListener));
    statements.length = 0;
    for (let seq = 1; seq <= 1_000; seq += 1) publishMessages(createMessageEvent(id, seq));
    await waitUntil(() => listeners.every(({ frames }) => frames.length > 0));
    expect(listQueries().map((text) => text.includes(STATE_QUERY_PART))).toEqual([false, true]);
    for (const { frames } of listeners) expect(frames).toMatchObject([{ unread: 1, change: "updated" }]);
  });

  test("a few times for a thousand messages in a thousand conversations", async () => {
    const [user = ""] = await createUsers(1);
    const ids = await createConversations(1_000, [user]);
    const { frames } = await subscribeListener(user);
    statements.length = 0;
    for (const id of ids) publishMessages(createMessageEvent(id));
    await waitUntil(() => frames.length === 1_000);
    expect(listQueries().length).toBeLessThanOrEqual(6);
    expect(new Set(frames.map(({ conversation_id }) => conversation_id)).size).toBe(1_000);
  });

  test("only once for other users' conversations", async () => {
    const [user = "", ...otherUsers] = await createUsers(20);
    const ids = await createConversations(100, otherUsers);
    const { frames } = await subscribeListener(user);
    statements.length = 0;
    for (let round = 0; round < 2; round += 1) {
      for (const id of ids) publishMessages(createMessageEvent(id));
      await Bun.sleep(1_100);
    }
    expect(listQueries()).toEqual([expect.stringContaining(MEMBER_QUERY_PART)]);
    expect(frames).toEqual([]);
  });

  test("never if no inbox is subscribed", async () => {
    const [user = ""] = await createUsers(1);
    const [id = ""] = await createConversations(1, [user]);
    const listener = await subscribeListener(user);
    inbox.unsubscribe(listener);
    statements.length = 0;
    let isCreated = false;
    bus.publish("conversations", () => {
      isCreated = true;
      return [createMessageEvent(id)];
    });
    await Bun.sleep(100);
    expect({ isCreated, queries: listQueries(), frames: listener.frames }).toEqual({
      isCreated: false,
      queries: [],
      frames: [],
    });
  });

  test("in batches for the members of a large conversation", async () => {
    const users = await createUsers(1_200);
    const [id = ""] = await createConversations(1, users);
    const listeners = await Promise.all(users.map(subscribeListener));
    statements.length = 0;
    publishMessages(createMessageEvent(id));
    await waitUntil(() => listeners.every(({ frames }) => frames.length > 0));
    expect(statements.filter((text) => text.includes(STATE_QUERY_PART))).toHaveLength(2);
    expect(listeners.filter(({ frames }) => frames.length !== 1)).toEqual([]);
  });
});

describe("a membership change while the database is queried", () => {
  test("is the only change sent to a removed member", async () => {
    const [user = ""] = await createUsers(1);
    const [id = ""] = await createConversations(1, [user]);
    const { frames } = await subscribeListener(user);
    const { promise, resolve } = Promise.withResolvers();
    delay = { text: STATE_QUERY_PART, until: promise };
    completedStatements.length = 0;
    publishMessages(createMessageEvent(id, 2));
    // Waits until the state is read while the user is still a member.
    await waitUntil(() => completedStatements.some((text) => text.includes(STATE_QUERY_PART)));
    await database`delete from members where conversation_id = ${id}`;
    const at = new Date().toISOString();
    const memberEvent = { type: "conversation.changed", conversation_id: id, user_id: user, at } as const;
    publishMessages({ ...memberEvent, event: "member.removed", seq: 3 });
    delay = null;
    resolve(null);
    await waitUntil(() => frames.length > 0);
    await Bun.sleep(1_200);
    expect(frames).toMatchObject([{ change: "removed", last_seq: 3, title: "" }]);
  });

  test("isn't missed by a new member", async () => {
    const [user = "", existingMember = ""] = await createUsers(2);
    const [id = ""] = await createConversations(1, [existingMember]);
    const { frames } = await subscribeListener(user);
    const { promise, resolve } = Promise.withResolvers();
    delay = { text: MEMBER_QUERY_PART, until: promise };
    completedStatements.length = 0;
    publishMessages(createMessageEvent(id));
    await waitUntil(() => completedStatements.some((text) => text.includes(MEMBER_QUERY_PART)));
    await database`insert into members (conversation_id, user_id, role) values (${id}, ${user}, 'member')`;
    const at = new Date().toISOString();
    const memberEvent = { type: "conversation.changed", conversation_id: id, user_id: user, at } as const;
    publishMessages({ ...memberEvent, event: "member.added", joined: true, seq: 2 });
    delay = null;
    resolve(null);
    await waitUntil(() => frames.length === 1);
    publishMessages(createMessageEvent(id, 3));
    await waitUntil(() => frames.length === 2);
    expect(frames.map(({ change }) => change)).toEqual(["added", "updated"]);
  });
});

describe("changes that were lost or evicted", () => {
  /** Returns whether the user's list has been loaded. */
  const isLoaded = () => completedStatements.some((text) => text.includes("member_activity"));

  test("are sent as updates, not as additions, if the conversation's state was evicted", async () => {
    const [user = ""] = await createUsers(1);
    const [evictedId = ""] = await createConversations(1, [user]);
    const newerIds = await createConversations(SENT_STATES_MAX + 20, [user]);
    await database`update member_activity a set active_at = now() - n * interval '1 minute'
      from unnest(${[...newerIds, evictedId]}::uuid[]) with ordinality as i (id, n) where a.conversation_id = i.id`;
    const gapHandlers: (() => void)[] = [];
    const lossyBus: Pick<Bus, "subscribe"> = {
      subscribe(_channel, { onGap }) {
        gapHandlers.push(onGap);
        return () => {};
      },
    };
    inbox = createInbox({ database: recordStatements(database), bus: lossyBus, log: silentLog, onPushed() {} });
    completedStatements.length = 0;
    const { frames } = await subscribeListener(user);
    await waitUntil(isLoaded);
    await database`update conversations set last_seq = 2, title = 'Plans' where id = ${evictedId}`;
    await database`update member_activity set active_at = now() where conversation_id = ${evictedId}`;
    gapHandlers[0]?.();
    await waitUntil(() => frames.length > 0);
    expect(frames).toMatchObject([{ conversation_id: evictedId, change: "updated", title: "Plans" }]);
  });

  test("are found in the user's list if too many changes wait for an unresponsive database", async () => {
    const [user = ""] = await createUsers(1);
    const [id = ""] = await createConversations(1, [user]);
    completedStatements.length = 0;
    const { frames } = await subscribeListener(user);
    await waitUntil(isLoaded);
    const { promise, resolve } = Promise.withResolvers();
    delay = { text: MEMBER_QUERY_PART, until: promise };
    await database`update conversations set last_seq = 2 where id = ${id}`;
    publishMessages(createMessageEvent(id, 2));
    await waitUntil(() => completedStatements.some((text) => text.includes(MEMBER_QUERY_PART)));
    for (let n = 0; n < 100_000; n += 1)
      publishMessages(createMessageEvent(`01900000-0000-7000-8000-${`${n}`.padStart(12, "0")}`));
    delay = null;
    resolve(null);
    await waitUntil(() => frames.length > 0);
    expect(frames).toMatchObject([{ conversation_id: id, last_seq: 2, change: "updated" }]);
  });
});

test("changes that couldn't be read are sent once the database responds again", async () => {
  const [user = ""] = await createUsers(1);
  const [id = ""] = await createConversations(1, [user]);
  const { frames } = await subscribeListener(user);
  delay = { text: STATE_QUERY_PART, until: Promise.reject(new Error("The connection broke.")) };
  delay.until.catch(() => {});
  statements.length = 0;
  publishMessages({ type: "conversation.listed", conversation_id: id, user_ids: [user] });
  await waitUntil(() => statements.some((text) => text.includes(STATE_QUERY_PART)));
  await Bun.sleep(50);
  expect(frames).toEqual([]);
  delay = null;
  await waitUntil(() => frames.length > 0);
  expect(frames).toMatchObject([{ conversation_id: id, change: "added" }]);
});

test("frames wait until the subscription has been acknowledged", async () => {
  const [user = ""] = await createUsers(1);
  const [id = ""] = await createConversations(1, [user]);
  const receivedItems: string[] = [];
  const { promise, resolve } = Promise.withResolvers();
  delay = { text: "as unread", until: promise };
  const listener = { userId: user, frames: [], send: () => void receivedItems.push("frame") };
  openListeners.push(listener);
  const subscribePromise = inbox.subscribe(listener, (unread) => void receivedItems.push(`unread: ${unread}`));
  delay = null;
  completedStatements.length = 0;
  publishMessages(createMessageEvent(id));
  await waitUntil(() => completedStatements.some((text) => text.includes(STATE_QUERY_PART)));
  await Bun.sleep(10);
  expect(receivedItems).toEqual([]);
  resolve(null);
  await subscribePromise;
  expect(receivedItems).toEqual(["unread: 1", "frame"]);
});
