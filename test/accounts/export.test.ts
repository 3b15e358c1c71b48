import { afterAll, beforeAll, expect, test } from "bun:test";
import { streamText } from "../../src/http/stream-text.ts";
import { createId } from "../../src/lib/id.ts";
import { insertAnswer } from "../support/answer.ts";
import { startApp, TEST_PASSWORD, type TestApp } from "../support/app.ts";
import type { Account } from "../support/client.ts";
import { createRest } from "../support/rest.ts";

let parley: TestApp;
beforeAll(async () => {
  parley = await startApp();
});
afterAll(() => parley.stop());

type Row = Record<string, unknown>;
type Lists =
  | "sessions"
  | "identities"
  | "api_keys"
  | "webhooks"
  | "memberships"
  | "messages"
  | "answers"
  | "feedback"
  | "prompts"
  | "prompt_versions"
  | "usage"
  | "audit_events";
type Export = { user: Row; preferences: Row } & Record<Lists, Row[]>;
const exportOf = async (account: Account) => (await createRest(parley, account).get<Export>("/me/export")).body;

async function createConversation(...memberIds: string[]): Promise<string> {
  const id = createId();
  await parley.database`insert into conversations (id, kind, reply_mode) values (${id}, 'group', 'never')`;
  for (const userId of memberIds)
    await parley.database`insert into members (conversation_id, user_id, role) values (${id}, ${userId}, 'member')`;
  return id;
}

async function addMessage(
  conversationId: string,
  authorId: string | null,
  content: string,
  seq: number,
): Promise<string> {
  const id = createId();
  await parley.database`
    insert into messages (id, conversation_id, seq, role, author_id, content)
    values (${id}, ${conversationId}, ${seq}, 'user', ${authorId}, ${content})`;
  return id;
}

/** A model's answer to a message, or a further one that this user requested. */
async function addAnswer(
  parentId: string,
  conversationId: string,
  userId: string,
  content: string,
  seq: number,
  isRegenerated = false,
): Promise<string> {
  const answer = { parentId, conversationId, seq, requestedBy: userId, isRegenerated, status: "finished" } as const;
  return (await insertAnswer(parley.database, { ...answer, text: content })).message_id;
}

test("of a new user has all parts", async () => {
  const me = await parley.register();
  const response = await parley.fetch("/api/v1/me/export", { token: me.access_token });
  expect(response.headers.get("content-type")).toBe("application/json");
  expect(response.headers.get("content-disposition")).toContain("attachment");
  const { audit_events, ...rest } = (await response.json()) as Export;
  expect(rest).toEqual({
    exported_at: expect.any(String),
    user: me.user,
    preferences: {},
    sessions: [expect.objectContaining({ ip_address: "127.0.0.1" })],
    identities: [],
    api_keys: [],
    webhooks: [],
    memberships: [],
    messages: [],
    answers: [],
    feedback: [],
    hooks: [],
    imports: [],
    supplied: [],
    prompts: [],
    prompt_versions: [],
    usage: [],
  } as unknown as Omit<Export, "audit_events">);
  expect(audit_events.map(({ action, is_own, ip_address }) => ({ action, is_own, ip_address }))).toEqual(
    ["user.registered", "user.logged_in", "user.exported"].map((action) => ({
      action,
      is_own: true,
      ip_address: "127.0.0.1",
    })),
  );
});

test("is only available to the user, with a session", async () => {
  expect((await parley.fetch("/api/v1/me/export")).status).toBe(401);
});

test("contains the user's own data, also from conversations they left, and nothing of other users", async () => {
  const me = await parley.register();
  const other = await parley.register();
  const rest = createRest(parley, me);
  await rest.request("PUT", "/me/preferences", { theme: "dark" });
  const { body: prompt } = await rest.request<{ id: string }>("POST", "/prompts", {
    name: "mine",
    template: "be brief",
  });
  const shared = await createConversation(me.user.id, other.user.id);
  const left = await createConversation(other.user.id);
  const mine = await addMessage(shared, me.user.id, 'mine \u2028 "quoted"', 1);
  const theirs = await addMessage(shared, other.user.id, "of somebody else", 2);
  await addMessage(shared, null, "of a model", 3);
  const old = await addMessage(left, me.user.id, "before I left", 1);
  const first = await addAnswer(old, left, me.user.id, "with it", 2);
  const second = await addAnswer(old, left, me.user.id, "once more", 3, true);
  await addAnswer(old, left, other.user.id, "after I left", 4, true);
  const answer = await addAnswer(mine, shared, me.user.id, "for me", 4);
  await addAnswer(theirs, shared, other.user.id, "for the other one", 5);
  const again = await addAnswer(mine, shared, other.user.id, "once more, by somebody else", 6, true);
  for (const { user } of [me, other]) {
    await parley.database`insert into feedback (conversation_id, message_seq, message_id, user_id, rating, comment)
    select conversation_id, seq, id, ${user.id}, 1, ${user.email} from messages where id = ${mine}`;
    await parley.database`
      insert into budget_windows (scope, scope_id, period, starts_on, spent_tokens)
      values ('user', ${user.id}, 'day', '2026-01-01', ${user === me.user ? 7 : 8})`;
    await parley.database`
      insert into identities (id, issuer, subject, user_id) values (${createId()}, 'https://id', ${user.email}, ${user.id})`;
    await parley.database`
      insert into api_keys (id, user_id, name, hash, prefix, last_four, scopes)
      values (${createId()}, ${user.id}, ${`key of ${user.email}`}, ${Buffer.from(user.id)}, 'pk_', '1234', '{users:read}')`;
    await parley.database`
      insert into webhooks (id, user_id, url, events, secret, previous_secret)
      values (${createId()}, ${user.id}, ${`https://${user.id}.example.com/`}, '{*}', 'sealed now', 'sealed before')`;
  }

  const text = await (await parley.fetch("/api/v1/me/export", { token: me.access_token })).text();
  const all = JSON.parse(text) as Export;
  expect(all.preferences).toEqual({ theme: "dark" });
  expect(all.memberships.map((row) => row.conversation_id)).toEqual([shared]);
  const texts = (rows: Row[]) => rows.map(({ id, content }) => ({ id, content }));
  expect(texts(all.messages)).toEqual([
    { id: mine, content: 'mine \u2028 "quoted"' },
    { id: old, content: "before I left" },
  ]);
  expect(texts(all.answers)).toEqual([
    { id: answer, content: "for me" },
    { id: again, content: "once more, by somebody else" },
    { id: first, content: "with it" },
    { id: second, content: "once more" },
  ]);
  expect(all.feedback.map((row) => row.comment)).toEqual([me.user.email]);
  expect(all.usage.map((row) => row.spent_tokens)).toEqual([7]);
  expect(all.identities.map((row) => row.subject)).toEqual([me.user.email]);
  expect(all.api_keys.map((row) => row.name)).toEqual([`key of ${me.user.email}`]);
  expect(all.webhooks.map((row) => row.url)).toEqual([`https://${me.user.id}.example.com/`]);
  expect(all.prompts.map((row) => row.id)).toEqual([prompt.id]);
  expect(all.prompt_versions.map((row) => row.template)).toEqual(["be brief"]);
  const secrets = [
    "of somebody else",
    "of a model",
    "for the other one",
    "after I left",
    other.user.email,
    other.user.id,
  ];
  for (const secret of [...secrets, "argon2", "refresh_key", "hash", "sealed", TEST_PASSWORD])
    expect(text).not.toContain(secret);
});

test("exports more rows than a batch, in order, from one conversation and from many", async () => {
  const me = await parley.register();
  const crowd = await parley.register();
  const [one, many] = [await createConversation(me.user.id), Array.from({ length: 5_200 }, () => createId())];
  // 52,000 messages; every 50th is the user's.
  await parley.database`
    insert into messages (id, conversation_id, seq, role, author_id, content, client_message_id)
    select gen_random_uuid(), ${one}, n, 'user',
      case when n % 50 = 0 then ${me.user.id}::uuid else ${crowd.user.id}::uuid end, 'message ' || n,
      case when n % 3 = 0 then 'c' || n end
    from generate_series(1, 52000) n`;
  await parley.database`
    insert into conversations (id, kind, reply_mode) select id, 'group', 'never' from unnest(${many}::uuid[]) id`;
  await parley.database`
    insert into messages (id, conversation_id, seq, role, author_id, content)
    select gen_random_uuid(), id, n, 'user', ${me.user.id}, 'x' from unnest(${many}::uuid[]) id, generate_series(1, 2) n`;
  for (let count = 0; count < 4; count++)
    await parley.fetch("/api/v1/auth/login", { json: { email: me.user.email, password: TEST_PASSWORD } });
  const all = await exportOf(me);
  const seqsIn = (messages: Row[], id: string) =>
    messages.filter((row) => row.conversation_id === id).map((row) => row.seq);
  expect(seqsIn(all.messages, one)).toEqual(Array.from({ length: 1_040 }, (_, index) => (index + 1) * 50));
  expect(all.messages).toHaveLength(1_040 + 2 * many.length);
  expect(new Set(all.messages.map((row) => row.id)).size).toBe(all.messages.length);
  expect(seqsIn(all.messages, many[5_000] ?? "")).toEqual([1, 2]);
  expect(all.sessions).toHaveLength(5);
  expect(seqsIn((await exportOf(crowd)).messages, one)).toEqual(
    Array.from({ length: 52_000 }, (_, index) => index + 1).filter((n) => n % 50 !== 0),
  );
});

test("of long messages is complete", async () => {
  const me = await parley.register();
  const id = await createConversation(me.user.id);
  await parley.database`
    insert into messages (id, conversation_id, seq, role, author_id, content)
    select gen_random_uuid(), ${id}, n, 'user', ${me.user.id}, repeat(chr(8364), 200000 - n) from generate_series(1, 12) n`;
  const { messages } = await exportOf(me);
  expect(messages.map(({ content }) => String(content).length)).toEqual(
    Array.from({ length: 12 }, (_, n) => 199_999 - n),
  );
});

test("stops reading when the client disconnects", async () => {
  let made = 0;
  let isClosed = false;
  async function* pieces() {
    try {
      for (; made < 1_000; made++) yield "x".repeat(1_000);
    } finally {
      isClosed = true;
    }
  }
  const reader = streamText(pieces(), () => {}).getReader();
  await reader.read();
  await reader.cancel();
  expect(isClosed).toBe(true);
  expect(made).toBeLessThan(10);
});

test("doesn't log an error if the client disconnects while a piece is generated", async () => {
  async function* pieces() {
    await Bun.sleep(20);
    yield "late";
  }
  const faults: unknown[] = [];
  const reader = streamText(pieces(), (error) => faults.push(error)).getReader();
  const read = reader.read();
  await reader.cancel();
  expect((await read).done).toBe(true);
  await Bun.sleep(40);
  expect(faults).toEqual([]);
});

test("breaks off if the database fails halfway, so that clients don't take half a document for a complete one", async () => {
  const isLost: boolean = true;
  async function* pieces() {
    yield '{"user":';
    if (isLost) throw new Error("connection lost");
    yield "1}";
  }
  const faults: unknown[] = [];
  const server = Bun.serve({
    port: 0,
    development: false,
    fetch: () => new Response(streamText(pieces(), (error) => faults.push(error))),
  });
  const taken = fetch(server.url).then((response) => response.json());
  expect(
    await taken.then(
      () => "whole",
      () => "broken",
    ),
  ).toBe("broken");
  expect(faults).toEqual([new Error("connection lost")]);
  await server.stop(true);
});
