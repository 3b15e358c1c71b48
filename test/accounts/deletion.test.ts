import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { insertAnswer } from "../support/answer.ts";
import { type Account, TEST_PASSWORD } from "../support/app.ts";
import { createConversation } from "../support/conversation.ts";
import { createRest, type Rest } from "../support/rest.ts";
import { openSocket } from "../support/socket.ts";
import { type Administration, type AuditEvent, logIn, type Page, startAdministration } from "./start-administration.ts";

let parley: Administration;
let admin: Rest;
beforeAll(async () => {
  parley = await startAdministration();
  admin = parley.admin;
});
afterAll(() => parley.stop());

const register = (mark = "somebody") => parley.createNamed(`Ada ${mark}`, mark);
const restOf = (account: Account) => createRest(parley, account);
type Member = { user_id: string; display_name: string; role: string };
type Event = { type: string; seq: number; data: Record<string, unknown> };

/** The members of a conversation, as one user sees them. */
const membersOf = async (rest: Rest, id: string) =>
  (await rest.get<Page<Member>>(`/conversations/${id}/members`)).body.data.map(({ user_id, role }) => ({
    user_id,
    role,
  }));
const eventsOf = async (rest: Rest, id: string) =>
  (await rest.get<Page<Event>>(`/conversations/${id}/events?after_seq=0`)).body.data;

async function remove(account: Account, by: "self" | "administrator"): Promise<void> {
  const { status } =
    by === "self"
      ? await restOf(account).request("DELETE", "/me", { current_password: TEST_PASSWORD })
      : await admin.request("DELETE", `/users/${account.user.id}`);
  expect(status).toBe(204);
}

/** All rows of all tables, as text. */
async function dumpDatabase(): Promise<string> {
  const sql = parley.database;
  const tables = await sql<{ name: string }[]>`
    select quote_ident(tablename) as name from pg_tables where schemaname = 'public'`;
  const texts = await Promise.all(
    tables.map(({ name }) => sql.unsafe(`select coalesce(string_agg(t::text, '\n'), '') as text from ${name} t`)),
  );
  return texts.map(([row]) => String(row?.text)).join("\n");
}

describe.each(["self", "administrator"] as const)("deleting a user, requested by %s", (by) => {
  test("removes everything that identifies them from the database", async () => {
    const mark = `unmistakable${by}`;
    const gone = await register(mark);
    const friend = await parley.register();
    const rest = restOf(gone);
    const { id: shared } = await createConversation(parley, friend, [gone]);
    const { id: left } = await createConversation(parley, friend, [gone]);
    await createConversation(parley, gone, [], { title: `diary ${mark}` });
    await rest.request("POST", `/conversations/${shared}/messages`, { content: "hello all" });
    await rest.request("DELETE", `/conversations/${left}/members/${gone.user.id}`);
    await rest.request("PUT", "/me/preferences", { city: `city ${mark}` });
    await rest.request("POST", "/prompts", { name: "p", template: `prompt ${mark}` });
    await rest.request("POST", "/api-keys", { name: `key ${mark}`, scopes: ["messages:read"] });
    await rest.request("POST", "/webhooks", { url: `https://${mark}.example.com/`, events: ["*"], description: mark });
    await logIn(parley, gone.user.email);
    await parley.fetch("/api/v1/auth/login", { json: { email: gone.user.email, password: "wrong one" } });
    expect((await dumpDatabase()).split(mark).length).toBeGreaterThan(8);

    await remove(gone, by);
    const dump = await dumpDatabase();
    expect(dump.split("\n").filter((row) => row.includes(mark))).toEqual([]);
    expect(dump.includes("hello all")).toBe(true);
    const addresses = await parley.database`
      select action from audit_events where ip_address is not null
        and (actor_id = ${gone.user.id} or (actor_id is null and target_id = ${gone.user.id}))`;
    expect([...addresses]).toEqual([]);
    const [entry] = (await admin.get<Page<AuditEvent>>(`/audit?target_id=${gone.user.id}`)).body.data;
    const isOwn = by === "self";
    expect(entry).toMatchObject({
      action: "user.deleted",
      actor_id: isOwn ? gone.user.id : admin.id,
      ip_address: isOwn ? null : "127.0.0.1",
    });
    expect((await admin.refused("GET", `/users/${gone.user.id}`)).status).toBe(404);
    // The address can be registered again, by a different account.
    expect((await parley.register(gone.user.email)).user.id).not.toBe(gone.user.id);
  });

  test("keeps their messages for the others, without an author", async () => {
    const gone = await register();
    const friend = await parley.register();
    const { id } = await createConversation(parley, friend, [gone]);
    const { body } = await restOf(gone).request<{ message: { id: string } }>("POST", `/conversations/${id}/messages`, {
      content: "what I said",
    });
    await remove(gone, by);
    const { body: message } = await restOf(friend).get(`/conversations/${id}/messages/${body.message.id}`);
    expect(message).toMatchObject({ content: "what I said", author: null, role: "user", status: "complete" });
    expect((await eventsOf(restOf(friend), id)).map(({ type }) => type)).toEqual([
      "member.added",
      "message.created",
      "member.removed",
    ]);
  });

  test("notifies the other members immediately, with an event with the next number", async () => {
    const gone = await register();
    const friend = await parley.register();
    const { id } = await createConversation(parley, friend, [gone]);
    const socket = await openSocket(parley.url, { token: friend.access_token });
    const { last_seq } = await socket.request({ type: "subscribe", conversation_id: id });
    await remove(gone, by);
    const event = await socket.waitFor(({ type }) => type === "member.removed");
    expect(event).toMatchObject({
      seq: Number(last_seq) + 1,
      data: { user_id: gone.user.id, display_name: "Deleted user", role: "member" },
    });
    expect((await eventsOf(restOf(friend), id)).at(-1)).toEqual(event as unknown as Event);
    await restOf(friend).request("POST", `/conversations/${id}/messages`, { content: "next" });
    expect(await socket.waitFor(({ type }) => type === "message.created")).toMatchObject({ seq: Number(last_seq) + 2 });
    await socket.close();
  });
});

describe("a conversation that loses its only owner", () => {
  test("promotes and notifies its longest-standing member, but no viewer and no disabled user", async () => {
    const gone = await register();
    const [disabled, viewer, oldest, youngest] = [
      await parley.register(),
      await parley.register(),
      await parley.register(),
      await parley.register(),
    ];
    const { id } = await createConversation(parley, gone, [disabled]);
    const add = (account: Account, role: string) =>
      restOf(gone).request("POST", `/conversations/${id}/members`, { user_id: account.user.id, role });
    await add(viewer, "viewer");
    await add(oldest, "member");
    await add(youngest, "member");
    await admin.request("PATCH", `/users/${disabled.user.id}`, { disabled: true });
    const socket = await openSocket(parley.url, { token: oldest.access_token });
    const { last_seq } = await socket.request({ type: "subscribe", conversation_id: id });
    await remove(gone, "self");
    const removed = await socket.waitFor(({ type }) => type === "member.removed");
    const raised = socket.list("member.added").at(-1);
    expect(raised).toMatchObject({
      seq: Number(last_seq) + 1,
      data: { user_id: oldest.user.id, display_name: "Somebody", role: "owner", last_read_seq: 0 },
    });
    expect(removed.seq).toBe(Number(last_seq) + 2);
    const rest = restOf(oldest);
    const { body } = await rest.get<Page<Member>>(`/conversations/${id}/members`);
    // The event matches the stored state.
    expect(body.data.find(({ user_id }) => user_id === oldest.user.id)).toEqual(raised?.data as unknown as Member);
    expect((await rest.request("PATCH", `/conversations/${id}`, { title: "Mine now" })).status).toBe(200);
    expect((await restOf(youngest).request("PATCH", `/conversations/${id}`, { title: "Mine" })).status).toBe(403);
    await socket.close();
  });

  test("promotes a viewer if there is nobody else, and nobody if another owner exists", async () => {
    const gone = await register();
    const [viewer, owner, member] = [await parley.register(), await parley.register(), await parley.register()];
    const { id } = await createConversation(parley, gone);
    await restOf(gone).request("POST", `/conversations/${id}/members`, { user_id: viewer.user.id, role: "viewer" });
    const { id: other } = await createConversation(parley, gone, [member]);
    await restOf(gone).request("POST", `/conversations/${other}/members`, { user_id: owner.user.id, role: "owner" });
    await remove(gone, "administrator");
    expect(await membersOf(restOf(viewer), id)).toEqual([{ user_id: viewer.user.id, role: "owner" }]);
    expect((await membersOf(restOf(member), other)).map(({ role }) => role).sort()).toEqual(["member", "owner"]);
  });
});

test("conversations with only this user are deleted immediately and erased soon; other users' stay unchanged", async () => {
  const gone = await register();
  const outsider = await parley.register();
  const { id } = await createConversation(parley, gone);
  const { id: kept } = await createConversation(parley, outsider);
  for (const [account, conversation] of [
    [gone, id],
    [outsider, kept],
  ] as const)
    await restOf(account).request("POST", `/conversations/${conversation}/messages`, { content: "text" });
  // Enough rows for more than one batch.
  await parley.database`
    insert into messages (id, conversation_id, seq, role, author_id, content)
    select gen_random_uuid(), ${id}, n, 'user', ${gone.user.id}, 'm' from generate_series(2, 11000) n`;
  await parley.database`update conversations set last_seq = 11000 where id = ${id}`;
  await remove(gone, "self");
  const [state] = await parley.database`
    select (select count(*)::int from members where conversation_id = ${id}) as members,
      (select count(*)::int from conversations where id = ${id} and deleted_at is null) as found`;
  expect(state).toEqual({ members: 0, found: 0 });
  const listRows = () => parley.database`
    select conversation_id from messages where conversation_id in (${id}, ${kept})
    union all select conversation_id from events where conversation_id in (${id}, ${kept})
    union all select id from conversations where id in (${id}, ${kept})`;
  const deadlineMs = Date.now() + 10_000;
  while ((await listRows()).length > 2 && Date.now() < deadlineMs) await Bun.sleep(100);
  expect((await listRows()).map(({ conversation_id }) => conversation_id)).toEqual([kept, kept]);
  expect((await restOf(outsider).get(`/conversations/${kept}`)).body).toMatchObject({ last_seq: 1 });
}, 20_000);

test("erases large amounts in batches: repeated requests, ratings, sessions, addresses in the audit log", async () => {
  const gone = await register();
  const friend = await parley.register();
  const { id } = await createConversation(parley, friend, [gone]);
  const sql = parley.database;
  await sql`
    insert into idempotency_keys (name, user_id, fingerprint, owner, fence, lease_until)
    select decode(md5(n::text), 'hex'), ${gone.user.id}, '', gen_random_uuid(), 1, now() from generate_series(1, 2500) n`;
  await sql`
    insert into messages (id, conversation_id, seq, role, author_id, content)
    select gen_random_uuid(), ${id}, n, 'user', ${friend.user.id}, 'm' from generate_series(10, 2509) n`;
  await sql`
    insert into feedback (conversation_id, message_seq, user_id, message_id, rating)
    select conversation_id, seq, ${gone.user.id}, id, 1 from messages where conversation_id = ${id}`;
  await sql`
    insert into sessions (id, user_id, refresh_key, expires_at, revoked_at)
    select gen_random_uuid(), ${gone.user.id}, '', now(), now() from generate_series(1, 2500)`;
  await sql`
    insert into audit_events (id, action, actor_id, ip_address)
    select gen_random_uuid(), 'user.logged_in', ${gone.user.id}, '192.0.2.1' from generate_series(1, 25000)`;
  await remove(gone, "administrator");
  const count = async () => {
    const [left] = await sql`
      select (select count(*)::int from users where id = ${gone.user.id}) as users,
        (select count(*)::int from idempotency_keys where user_id = ${gone.user.id}) as keys,
        (select count(*)::int from feedback where user_id = ${gone.user.id}) as ratings,
        (select count(*)::int from sessions where user_id = ${gone.user.id}) as sessions,
        (select count(*)::int from audit_events where actor_id = ${gone.user.id} and ip_address is not null) as addresses`;
    return left;
  };
  // On a slow machine, the response doesn't wait for the end.
  const deadlineMs = performance.now() + 15_000;
  while ((await count())?.users !== 0 && performance.now() < deadlineMs) await Bun.sleep(50);
  expect(await count()).toEqual({ users: 0, keys: 0, ratings: 0, sessions: 0, addresses: 0 });
}, 30_000);

test("deletes their prompts, and conversations that used them have none", async () => {
  const gone = await register();
  const friend = await parley.register();
  const { body: prompt } = await restOf(gone).request<{ id: string }>("POST", "/prompts", {
    name: "p",
    template: "be brief",
  });
  const { id } = await createConversation(parley, gone, [friend], { prompt_id: prompt.id });
  expect((await restOf(friend).get(`/conversations/${id}`)).body).toMatchObject({ prompt_id: prompt.id });
  await remove(gone, "self");
  expect((await restOf(friend).get(`/conversations/${id}`)).body).toMatchObject({ prompt_id: null, role: "owner" });
  expect(await parley.database`select 1 from prompts where id = ${prompt.id}`).toHaveLength(0);
});

test("stops an answer in progress for them; the conversation continues", async () => {
  const gone = await register();
  const friend = await parley.register();
  const { id } = await createConversation(parley, friend, [gone]);
  const { id: own } = await createConversation(parley, gone);
  const startAnswer = async (conversationId: string) => {
    await parley.database`update conversations set last_seq = 50 where id = ${conversationId}`;
    // Its instance has just crashed.
    const answer = { conversationId, seq: 50, requestedBy: gone.user.id, leaseMs: 1_000, text: "so far" };
    return insertAnswer(parley.database, answer);
  };
  const { id: generationId, message_id: messageId } = await startAnswer(id);
  const { id: ownGenerationId } = await startAnswer(own);
  await remove(gone, "self");
  const deadlineMs = Date.now() + 10_000;
  let message: { status?: string } = {};
  while (message.status !== "cancelled" && Date.now() < deadlineMs) {
    await Bun.sleep(200);
    message = (await restOf(friend).get<{ status: string }>(`/conversations/${id}/messages/${messageId}`)).body;
  }
  expect(message).toMatchObject({ status: "cancelled", finish_reason: "cancelled", content: "so far" });
  const left = await parley.database`select id from generations where id in (${generationId}, ${ownGenerationId})`;
  expect(left.map((row) => row.id)).toEqual([generationId]);
}, 20_000);

describe("deleting one's own account", () => {
  test("works with the right password, or with none set; fails with a wrong one", async () => {
    const account = await register();
    const rest = restOf(account);
    expect(await rest.refused("DELETE", "/me", { current_password: "wrong" })).toMatchObject({
      status: 403,
      code: "forbidden",
    });
    for (const json of [{ current_password: 1 }, { sure: true }, []])
      expect((await rest.refused("DELETE", "/me", json)).status).toBe(422);
    expect((await parley.fetch("/api/v1/me", { method: "DELETE" })).status).toBe(401);
    expect((await rest.get("/me")).status).toBe(200);
    expect((await rest.request("DELETE", "/me")).status).toBe(204);
    expect((await rest.get("/me")).status).toBe(401);
    expect(
      (await parley.fetch("/api/v1/auth/refresh", { json: { refresh_token: account.refresh_token } })).status,
    ).toBe(401);
  });

  test("is not possible with an API key", async () => {
    const account = await register();
    const { body } = await restOf(account).request<{ key: string }>("POST", "/api-keys", {
      name: "k",
      scopes: ["users:write"],
    });
    expect((await parley.fetch("/api/v1/me", { method: "DELETE", token: body.key })).status).toBe(403);
    expect((await restOf(account).get("/me")).status).toBe(200);
  });
});
