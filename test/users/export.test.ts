import { afterAll, beforeAll, expect, test } from "bun:test";
import { createId } from "../../src/lib/id.ts";
import { streamText } from "../../src/modules/users/export.ts";
import { type Accounts, PASSWORD, readJson, startAccounts } from "../auth/start-accounts.ts";

let accounts: Accounts;
beforeAll(async () => {
  accounts = await startAccounts();
});
afterAll(() => accounts.stop());

type Row = Record<string, unknown>;
type Export = { user: Row; preferences: Row; sessions: Row[]; memberships: Row[]; messages: Row[]; feedback: Row[] };
const exportOf = async (token: string) => readJson<Export>(await accounts.call("/me/export", { token }));

async function createConversation(...memberIds: string[]): Promise<string> {
  const id = createId();
  await accounts.database`insert into conversations (id, kind, reply_mode) values (${id}, 'group', 'never')`;
  for (const userId of memberIds)
    await accounts.database`insert into members (conversation_id, user_id, role) values (${id}, ${userId}, 'member')`;
  return id;
}

async function say(conversationId: string, authorId: string | null, content: string, seq: number): Promise<string> {
  const id = createId();
  await accounts.database`
    insert into messages (id, conversation_id, seq, role, author_id, content)
    values (${id}, ${conversationId}, ${seq}, 'user', ${authorId}, ${content})`;
  return id;
}

test("of a new user has all its parts", async () => {
  const { user, access_token } = await accounts.register();
  const response = await accounts.call("/me/export", { token: access_token });
  expect(response.headers.get("content-type")).toBe("application/json");
  expect(response.headers.get("content-disposition")).toContain("attachment");
  expect(await readJson<Export>(response)).toEqual({
    exported_at: expect.any(String),
    user,
    preferences: {},
    sessions: [expect.objectContaining({ ip_address: "127.0.0.1" })],
    memberships: [],
    messages: [],
    feedback: [],
    prompts: [],
    prompt_versions: [],
  } as unknown as Export);
});

test("holds what is one's own, also from conversations one has left, and nothing of others", async () => {
  const me = await accounts.register();
  const other = await accounts.register();
  await accounts.call("/me/preferences", { method: "PUT", token: me.access_token, json: { theme: "dark" } });
  const shared = await createConversation(me.user.id, other.user.id);
  const left = await createConversation(other.user.id);
  const mine = await say(shared, me.user.id, 'mine \u2028 "quoted"', 1);
  await say(shared, other.user.id, "of somebody else", 2);
  await say(shared, null, "of a model", 3);
  const old = await say(left, me.user.id, "before I left", 1);
  for (const { user } of [me, other])
    await accounts.database`insert into feedback (message_id, user_id, rating, comment) values (${mine}, ${user.id}, 1, ${user.email})`;

  const text = await (await accounts.call("/me/export", { token: me.access_token })).text();
  const all = JSON.parse(text) as Export;
  expect(all.preferences).toEqual({ theme: "dark" });
  expect(all.memberships.map((row) => row.conversation_id)).toEqual([shared]);
  expect(all.messages.map(({ id, content }) => ({ id, content }))).toEqual([
    { id: mine, content: 'mine \u2028 "quoted"' },
    { id: old, content: "before I left" },
  ]);
  expect(all.feedback.map((row) => row.comment)).toEqual([me.user.email]);
  for (const secret of ["of somebody else", "of a model", other.user.email, "argon2", "refresh_key", PASSWORD])
    expect(text).not.toContain(secret);
});

test("goes through more rows than a batch and more messages than a window, in order", async () => {
  const me = await accounts.register();
  const crowd = await accounts.register();
  const id = await createConversation(me.user.id);
  // Ids rise with seq: 25,000 messages, of which every 50th is mine.
  await accounts.database`
    insert into messages (id, conversation_id, seq, role, author_id, content)
    select (substr(hex, 1, 8) || '-' || substr(hex, 9, 4) || '-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, ${id}, n, 'user',
      case when n % 50 = 0 then ${me.user.id}::uuid else ${crowd.user.id}::uuid end, 'message ' || n
    from generate_series(1, 25000) n, (select lpad(to_hex((extract(epoch from now()) * 1000)::bigint), 12, '0') as hex) h`;
  for (let count = 0; count < 4; count++) await accounts.login(me.user.email);
  const all = await exportOf(me.access_token);
  expect(all.messages.map((row) => row.seq)).toEqual(Array.from({ length: 500 }, (_, index) => (index + 1) * 50));
  expect(all.sessions).toHaveLength(5);
  expect((await exportOf(crowd.access_token)).messages).toHaveLength(25_000 - 500);
});

test("reads no further when nobody takes the pieces any more", async () => {
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

test("breaks off when the database goes away in the middle, so that half a document is no document", async () => {
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
