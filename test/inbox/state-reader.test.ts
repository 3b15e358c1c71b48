import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import type { Database } from "../../src/db/client.ts";
import { createId } from "../../src/lib/id.ts";
import type { InboxListener } from "../../src/modules/inbox/inbox-users.ts";
import { SENT_STATES_MAX } from "../../src/modules/inbox/sent-states.ts";
import { createInbox, type Inbox } from "../../src/modules/inbox/service.ts";
import type { Bus, ConversationsMessage } from "../../src/realtime/bus.ts";
import { createMemoryBus } from "../../src/realtime/bus-memory.ts";
import type { InboxFrame } from "../support/inbox.ts";
import { silentLog } from "../support/log.ts";
import { createTestDatabase } from "../support/postgres.ts";
import { checkPush } from "../support/pushes.ts";

type Listener = InboxListener & { frames: InboxFrame[] };

const STATES = "p (conversation_id, user_id)";
const MEMBERS = "with ordinality as i (id, position)";

let database: Database;
/** The inboxes' SQL statements, as sent. */
const statements: string[] = [];
/** Those whose results have arrived. */
const answered: string[] = [];
/** The result of a statement that contains this text waits for the promise. */
let delay: { of: string; until: Promise<unknown> } | null = null;
const bus = createMemoryBus({ log: silentLog });
let inbox: Inbox;
const open: Listener[] = [];

/** The same database, with its statements recorded. */
const watch = (real: Database): Database =>
  new Proxy(real, {
    apply(target, self, given: unknown[]) {
      const text = Array.isArray(given[0]) ? given[0].join("$") : "";
      const query = Reflect.apply(target, self, given);
      // The rest are fragments of other statements.
      if (!/^\s*select/.test(text)) return query;
      statements.push(text);
      const until = delay && text.includes(delay.of) ? delay.until : null;
      return query.then(async (rows: unknown) => {
        answered.push(text);
        await until;
        return rows;
      });
    },
  });

/** The statements caused by messages; a subscription causes others. */
const listQueries = () => statements.filter((text) => text.includes(STATES) || text.includes(MEMBERS));

beforeAll(async () => {
  ({ database } = await createTestDatabase());
});
beforeEach(() => {
  inbox = createInbox({ database: watch(database), bus, log: silentLog, onPushed() {} });
});
afterEach(() => {
  for (const listener of open.splice(0)) inbox.unsubscribe(listener);
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

async function listen(userId: string): Promise<Listener> {
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
  open.push(listener);
  await inbox.subscribe(listener, () => {});
  return listener;
}

const publish = (...messages: ConversationsMessage[]) => bus.publish("conversations", () => messages);
const written = (conversation_id: string, seq = 1): ConversationsMessage => ({
  type: "conversation.changed",
  conversation_id,
  event: "message.created",
  seq,
  at: new Date().toISOString(),
});

async function until(condition: () => boolean, waitMs = 10_000): Promise<void> {
  const endMs = performance.now() + waitMs;
  while (!condition()) {
    if (performance.now() > endMs) throw new Error("Timed out.");
    await Bun.sleep(5);
  }
}

describe("inboxes query the database", () => {
  test("twice for a thousand messages in one conversation, no matter how many inboxes are subscribed", async () => {
    const users = await createUsers(300);
    const [id = ""] = await createConversations(1, users);
    const listeners = await Promise.all(users.slice(0, 100).map(listen));
    statements.length = 0;
    for (let seq = 1; seq <= 1_000; seq += 1) publish(written(id, seq));
    await until(() => listeners.every(({ frames }) => frames.length > 0));
    expect(listQueries().map((text) => text.includes(STATES))).toEqual([false, true]);
    for (const { frames } of listeners) expect(frames).toMatchObject([{ unread: 1, change: "updated" }]);
  });

  test("a few times for a thousand messages in a thousand conversations", async () => {
    const [user = ""] = await createUsers(1);
    const ids = await createConversations(1_000, [user]);
    const { frames } = await listen(user);
    statements.length = 0;
    for (const id of ids) publish(written(id));
    await until(() => frames.length === 1_000);
    expect(listQueries().length).toBeLessThanOrEqual(6);
    expect(new Set(frames.map(({ conversation_id }) => conversation_id)).size).toBe(1_000);
  });

  test("once for other users' conversations, then never again", async () => {
    const [user = "", ...others] = await createUsers(20);
    const ids = await createConversations(100, others);
    const { frames } = await listen(user);
    statements.length = 0;
    for (let round = 0; round < 2; round += 1) {
      for (const id of ids) publish(written(id));
      await Bun.sleep(1_100);
    }
    expect(listQueries()).toEqual([expect.stringContaining(MEMBERS)]);
    expect(frames).toEqual([]);
  });

  test("not at all if no inbox is subscribed", async () => {
    const [user = ""] = await createUsers(1);
    const [id = ""] = await createConversations(1, [user]);
    const listener = await listen(user);
    inbox.unsubscribe(listener);
    statements.length = 0;
    let isCreated = false;
    bus.publish("conversations", () => {
      isCreated = true;
      return [written(id)];
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
    const listeners = await Promise.all(users.map(listen));
    statements.length = 0;
    publish(written(id));
    await until(() => listeners.every(({ frames }) => frames.length > 0));
    expect(statements.filter((text) => text.includes(STATES))).toHaveLength(2);
    expect(listeners.filter(({ frames }) => frames.length !== 1)).toEqual([]);
  });
});

describe("a membership that ends while the state is read", () => {
  test("is the only change that is sent", async () => {
    const [user = ""] = await createUsers(1);
    const [id = ""] = await createConversations(1, [user]);
    const { frames } = await listen(user);
    const { promise, resolve } = Promise.withResolvers();
    delay = { of: STATES, until: promise };
    answered.length = 0;
    publish(written(id, 2));
    // The state of a member.
    await until(() => answered.some((text) => text.includes(STATES)));
    await database`delete from members where conversation_id = ${id}`;
    const at = new Date().toISOString();
    const about = { type: "conversation.changed", conversation_id: id, user_id: user, at } as const;
    publish({ ...about, event: "member.removed", seq: 3 });
    delay = null;
    resolve(null);
    await until(() => frames.length > 0);
    await Bun.sleep(1_200);
    expect(frames).toMatchObject([{ change: "removed", last_seq: 3, title: "" }]);
  });

  test("that begins while the members are read is not missed", async () => {
    const [user = "", other = ""] = await createUsers(2);
    const [id = ""] = await createConversations(1, [other]);
    const { frames } = await listen(user);
    const { promise, resolve } = Promise.withResolvers();
    delay = { of: MEMBERS, until: promise };
    answered.length = 0;
    publish(written(id));
    await until(() => answered.some((text) => text.includes(MEMBERS)));
    await database`insert into members (conversation_id, user_id, role) values (${id}, ${user}, 'member')`;
    const at = new Date().toISOString();
    const about = { type: "conversation.changed", conversation_id: id, user_id: user, at } as const;
    publish({ ...about, event: "member.added", joined: true, seq: 2 });
    delay = null;
    resolve(null);
    await until(() => frames.length === 1);
    publish(written(id, 3));
    await until(() => frames.length === 2);
    expect(frames.map(({ change }) => change)).toEqual(["added", "updated"]);
  });
});

describe("lost or evicted changes", () => {
  /** Resolves once the user's list has been read, which is where the inbox starts. */
  const isLoaded = () => answered.some((text) => text.includes("member_activity"));

  test("of conversations beyond the remembered ones are sent as a change, not as new", async () => {
    const [user = ""] = await createUsers(1);
    const [old = ""] = await createConversations(1, [user]);
    const newer = await createConversations(SENT_STATES_MAX + 20, [user]);
    await database`update member_activity a set active_at = now() - n * interval '1 minute'
      from unnest(${[...newer, old]}::uuid[]) with ordinality as i (id, n) where a.conversation_id = i.id`;
    const gaps: (() => void)[] = [];
    const lossy: Pick<Bus, "subscribe"> = {
      subscribe(_channel, { onGap }) {
        gaps.push(onGap);
        return () => {};
      },
    };
    inbox = createInbox({ database: watch(database), bus: lossy, log: silentLog, onPushed() {} });
    answered.length = 0;
    const { frames } = await listen(user);
    await until(isLoaded);
    await database`update conversations set last_seq = 2, title = 'Plans' where id = ${old}`;
    await database`update member_activity set active_at = now() where conversation_id = ${old}`;
    gaps[0]?.();
    await until(() => frames.length > 0);
    expect(frames).toMatchObject([{ conversation_id: old, change: "updated", title: "Plans" }]);
  });

  test("are found again in the lists if too many wait for a database that does not respond", async () => {
    const [user = ""] = await createUsers(1);
    const [id = ""] = await createConversations(1, [user]);
    answered.length = 0;
    const { frames } = await listen(user);
    await until(isLoaded);
    const { promise, resolve } = Promise.withResolvers();
    delay = { of: MEMBERS, until: promise };
    await database`update conversations set last_seq = 2 where id = ${id}`;
    publish(written(id, 2));
    await until(() => answered.some((text) => text.includes(MEMBERS)));
    for (let n = 0; n < 100_000; n += 1) publish(written(`01900000-0000-7000-8000-${`${n}`.padStart(12, "0")}`));
    delay = null;
    resolve(null);
    await until(() => frames.length > 0);
    expect(frames).toMatchObject([{ conversation_id: id, last_seq: 2, change: "updated" }]);
  });
});

test("that could not be read are sent when the database responds again", async () => {
  const [user = ""] = await createUsers(1);
  const [id = ""] = await createConversations(1, [user]);
  const { frames } = await listen(user);
  delay = { of: STATES, until: Promise.reject(new Error("The connection broke.")) };
  delay.until.catch(() => {});
  statements.length = 0;
  publish({ type: "conversation.listed", conversation_id: id, user_ids: [user] });
  await until(() => statements.some((text) => text.includes(STATES)));
  await Bun.sleep(50);
  expect(frames).toEqual([]);
  delay = null;
  await until(() => frames.length > 0);
  expect(frames).toMatchObject([{ conversation_id: id, change: "added" }]);
});

test("frames wait until the subscription has been acknowledged", async () => {
  const [user = ""] = await createUsers(1);
  const [id = ""] = await createConversations(1, [user]);
  const seen: string[] = [];
  const { promise, resolve } = Promise.withResolvers();
  delay = { of: "as unread", until: promise };
  const listener = { userId: user, frames: [], send: () => void seen.push("frame") };
  open.push(listener);
  const subscribed = inbox.subscribe(listener, (unread) => void seen.push(`unread: ${unread}`));
  delay = null;
  answered.length = 0;
  publish(written(id));
  await until(() => answered.some((text) => text.includes(STATES)));
  await Bun.sleep(10);
  expect(seen).toEqual([]);
  resolve(null);
  await subscribed;
  expect(seen).toEqual(["unread: 1", "frame"]);
});
