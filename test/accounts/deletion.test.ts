import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { insertAnswer } from "../support/answer.ts";
import { type Account, TEST_PASSWORD } from "../support/app.ts";
import { createConversation } from "../support/conversation.ts";
import { createRestClient, type RestClient } from "../support/rest.ts";
import { openSocket } from "../support/socket.ts";
import { type Administration, type AuditEvent, logIn, type Page, startAdministration } from "./start-administration.ts";

let parley: Administration;
let admin: RestClient;
beforeAll(async () => {
  parley = await startAdministration();
  admin = parley.admin;
});
afterAll(() => parley.stop());

/** Registers a user whose name and email address contain a marker. */
const registerUser = (marker = "somebody") => parley.createNamedUser(`Ada ${marker}`, marker);
const createUserClient = (account: Account) => createRestClient(parley, account);
type Member = { user_id: string; display_name: string; role: string };
type Event = { type: string; seq: number; data: Record<string, unknown> };

const listMembers = async (rest: RestClient, id: string) =>
  (await rest.get<Page<Member>>(`/conversations/${id}/members`)).body.data.map(({ user_id, role }) => ({
    user_id,
    role,
  }));
const listEvents = async (rest: RestClient, id: string) =>
  (await rest.get<Page<Event>>(`/conversations/${id}/events?after_seq=0`)).body.data;

async function deleteUser(account: Account, requestedBy: "self" | "administrator"): Promise<void> {
  const { status } =
    requestedBy === "self"
      ? await createUserClient(account).request("DELETE", "/me", { current_password: TEST_PASSWORD })
      : await admin.request("DELETE", `/users/${account.user.id}`);
  expect(status).toBe(204);
}

/** Returns all rows of all tables, one per line. */
async function dumpDatabase(): Promise<string> {
  const sql = parley.database;
  const tables = await sql<{ name: string }[]>`
    select quote_ident(tablename) as name from pg_tables where schemaname = 'public'`;
  const dumps = await Promise.all(
    tables.map(({ name }) => sql.unsafe(`select coalesce(string_agg(t::text, '\n'), '') as text from ${name} t`)),
  );
  return dumps.map(([row]) => String(row?.text)).join("\n");
}

describe.each(["self", "administrator"] as const)("deleting a user (requested by: %s)", (requestedBy) => {
  test("removes everything that identifies the user from the database", async () => {
    const marker = `unmistakable${requestedBy}`;
    const deletedUser = await registerUser(marker);
    const friend = await parley.register();
    const rest = createUserClient(deletedUser);
    const { id: sharedId } = await createConversation(parley, friend, [deletedUser]);
    const { id: formerConversationId } = await createConversation(parley, friend, [deletedUser]);
    await createConversation(parley, deletedUser, [], { title: `diary ${marker}` });
    await rest.request("POST", `/conversations/${sharedId}/messages`, { content: "hello all" });
    await rest.request("DELETE", `/conversations/${formerConversationId}/members/${deletedUser.user.id}`);
    await rest.request("PUT", "/me/preferences", { city: `city ${marker}` });
    await rest.request("POST", "/prompts", { name: "p", template: `prompt ${marker}` });
    await rest.request("POST", "/api-keys", { name: `key ${marker}`, scopes: ["messages:read"] });
    await rest.request("POST", "/webhooks", {
      url: `https://${marker}.example.com/`,
      events: ["*"],
      description: marker,
    });
    await logIn(parley, deletedUser.user.email);
    await parley.fetch("/api/v1/auth/login", { json: { email: deletedUser.user.email, password: "wrong one" } });
    expect((await dumpDatabase()).split(marker).length).toBeGreaterThan(8);

    await deleteUser(deletedUser, requestedBy);
    const dump = await dumpDatabase();
    expect(dump.split("\n").filter((row) => row.includes(marker))).toEqual([]);
    expect(dump.includes("hello all")).toBe(true);
    const ipAddresses = await parley.database`
      select action from audit_events where ip_address is not null
        and (actor_id = ${deletedUser.user.id} or (actor_id is null and target_id = ${deletedUser.user.id}))`;
    expect([...ipAddresses]).toEqual([]);
    const [entry] = (await admin.get<Page<AuditEvent>>(`/audit?target_id=${deletedUser.user.id}`)).body.data;
    const isSelf = requestedBy === "self";
    expect(entry).toMatchObject({
      action: "user.deleted",
      actor_id: isSelf ? deletedUser.user.id : admin.id,
      ip_address: isSelf ? null : "127.0.0.1",
    });
    expect((await admin.requestProblem("GET", `/users/${deletedUser.user.id}`)).status).toBe(404);
    // The email address can be registered again.
    expect((await parley.register(deletedUser.user.email)).user.id).not.toBe(deletedUser.user.id);
  });

  test("keeps the user's messages for other members, without an author", async () => {
    const deletedUser = await registerUser();
    const friend = await parley.register();
    const { id } = await createConversation(parley, friend, [deletedUser]);
    const { body } = await createUserClient(deletedUser).request<{ message: { id: string } }>(
      "POST",
      `/conversations/${id}/messages`,
      {
        content: "what I said",
      },
    );
    await deleteUser(deletedUser, requestedBy);
    const { body: message } = await createUserClient(friend).get(`/conversations/${id}/messages/${body.message.id}`);
    expect(message).toMatchObject({ content: "what I said", author: null, role: "user", status: "complete" });
    expect((await listEvents(createUserClient(friend), id)).map(({ type }) => type)).toEqual([
      "member.added",
      "message.created",
      "member.removed",
    ]);
  });

  test("immediately sends the other members an event with the next sequence number", async () => {
    const deletedUser = await registerUser();
    const friend = await parley.register();
    const { id } = await createConversation(parley, friend, [deletedUser]);
    const socket = await openSocket(parley.url, { token: friend.access_token });
    const { last_seq } = await socket.request({ type: "subscribe", conversation_id: id });
    await deleteUser(deletedUser, requestedBy);
    const event = await socket.waitFor(({ type }) => type === "member.removed");
    expect(event).toMatchObject({
      seq: Number(last_seq) + 1,
      data: { user_id: deletedUser.user.id, display_name: "Deleted user", role: "member" },
    });
    expect((await listEvents(createUserClient(friend), id)).at(-1)).toEqual(event as unknown as Event);
    await createUserClient(friend).request("POST", `/conversations/${id}/messages`, { content: "next" });
    expect(await socket.waitFor(({ type }) => type === "message.created")).toMatchObject({ seq: Number(last_seq) + 2 });
    await socket.close();
  });
});

describe("deleting a conversation's only owner", () => {
  test("promotes the longest-standing member who isn't a viewer or disabled", async () => {
    const deletedUser = await registerUser();
    const [disabledMember, viewer, firstMember, laterMember] = [
      await parley.register(),
      await parley.register(),
      await parley.register(),
      await parley.register(),
    ];
    const { id } = await createConversation(parley, deletedUser, [disabledMember]);
    const addMember = (account: Account, role: string) =>
      createUserClient(deletedUser).request("POST", `/conversations/${id}/members`, { user_id: account.user.id, role });
    await addMember(viewer, "viewer");
    await addMember(firstMember, "member");
    await addMember(laterMember, "member");
    await admin.request("PATCH", `/users/${disabledMember.user.id}`, { disabled: true });
    const socket = await openSocket(parley.url, { token: firstMember.access_token });
    const { last_seq } = await socket.request({ type: "subscribe", conversation_id: id });
    await deleteUser(deletedUser, "self");
    const removal = await socket.waitFor(({ type }) => type === "member.removed");
    const promotion = socket.list("member.added").at(-1);
    expect(promotion).toMatchObject({
      seq: Number(last_seq) + 1,
      data: { user_id: firstMember.user.id, display_name: "Somebody", role: "owner", last_read_seq: 0 },
    });
    expect(removal.seq).toBe(Number(last_seq) + 2);
    const rest = createUserClient(firstMember);
    const { body } = await rest.get<Page<Member>>(`/conversations/${id}/members`);
    expect(body.data.find(({ user_id }) => user_id === firstMember.user.id)).toEqual(
      promotion?.data as unknown as Member,
    );
    expect((await rest.request("PATCH", `/conversations/${id}`, { title: "Mine now" })).status).toBe(200);
    expect(
      (await createUserClient(laterMember).request("PATCH", `/conversations/${id}`, { title: "Mine" })).status,
    ).toBe(403);
    await socket.close();
  });

  test("promotes a viewer only if there is no other member, and nobody if another owner exists", async () => {
    const deletedUser = await registerUser();
    const [viewer, owner, member] = [await parley.register(), await parley.register(), await parley.register()];
    const { id } = await createConversation(parley, deletedUser);
    await createUserClient(deletedUser).request("POST", `/conversations/${id}/members`, {
      user_id: viewer.user.id,
      role: "viewer",
    });
    const { id: otherId } = await createConversation(parley, deletedUser, [member]);
    await createUserClient(deletedUser).request("POST", `/conversations/${otherId}/members`, {
      user_id: owner.user.id,
      role: "owner",
    });
    await deleteUser(deletedUser, "administrator");
    expect(await listMembers(createUserClient(viewer), id)).toEqual([{ user_id: viewer.user.id, role: "owner" }]);
    expect((await listMembers(createUserClient(member), otherId)).map(({ role }) => role).sort()).toEqual([
      "member",
      "owner",
    ]);
  });
});

test("a deleted user's conversations without other members are deleted immediately and erased soon after", async () => {
  const deletedUser = await registerUser();
  const outsider = await parley.register();
  const { id } = await createConversation(parley, deletedUser);
  const { id: otherId } = await createConversation(parley, outsider);
  for (const [account, conversation] of [
    [deletedUser, id],
    [outsider, otherId],
  ] as const)
    await createUserClient(account).request("POST", `/conversations/${conversation}/messages`, { content: "text" });
  // These are more rows than one batch deletes.
  await parley.database`
    insert into messages (id, conversation_id, seq, role, author_id, content)
    select gen_random_uuid(), ${id}, n, 'user', ${deletedUser.user.id}, 'm' from generate_series(2, 11000) n`;
  await parley.database`update conversations set last_seq = 11000 where id = ${id}`;
  await deleteUser(deletedUser, "self");
  const [state] = await parley.database`
    select (select count(*)::int from members where conversation_id = ${id}) as members,
      (select count(*)::int from conversations where id = ${id} and deleted_at is null) as found`;
  expect(state).toEqual({ members: 0, found: 0 });
  const listRows = () => parley.database`
    select conversation_id from messages where conversation_id in (${id}, ${otherId})
    union all select conversation_id from events where conversation_id in (${id}, ${otherId})
    union all select id from conversations where id in (${id}, ${otherId})`;
  const deadlineMs = Date.now() + 10_000;
  while ((await listRows()).length > 2 && Date.now() < deadlineMs) await Bun.sleep(100);
  expect((await listRows()).map(({ conversation_id }) => conversation_id)).toEqual([otherId, otherId]);
  expect((await createUserClient(outsider).get(`/conversations/${otherId}`)).body).toMatchObject({ last_seq: 1 });
}, 20_000);

test("a deletion erases large amounts of data in batches", async () => {
  const deletedUser = await registerUser();
  const friend = await parley.register();
  const { id } = await createConversation(parley, friend, [deletedUser]);
  const sql = parley.database;
  await sql`
    insert into idempotency_keys (name, user_id, fingerprint, owner, fence, lease_until)
    select decode(md5(n::text), 'hex'), ${deletedUser.user.id}, '', gen_random_uuid(), 1, now() from generate_series(1, 2500) n`;
  await sql`
    insert into messages (id, conversation_id, seq, role, author_id, content)
    select gen_random_uuid(), ${id}, n, 'user', ${friend.user.id}, 'm' from generate_series(10, 2509) n`;
  await sql`
    insert into feedback (conversation_id, message_seq, user_id, message_id, rating)
    select conversation_id, seq, ${deletedUser.user.id}, id, 1 from messages where conversation_id = ${id}`;
  await sql`
    insert into sessions (id, user_id, refresh_key, expires_at, revoked_at)
    select gen_random_uuid(), ${deletedUser.user.id}, '', now(), now() from generate_series(1, 2500)`;
  await sql`
    insert into audit_events (id, action, actor_id, ip_address)
    select gen_random_uuid(), 'user.logged_in', ${deletedUser.user.id}, '192.0.2.1' from generate_series(1, 25000)`;
  await deleteUser(deletedUser, "administrator");
  const countRows = async () => {
    const [row] = await sql`
      select (select count(*)::int from users where id = ${deletedUser.user.id}) as users,
        (select count(*)::int from idempotency_keys where user_id = ${deletedUser.user.id}) as keys,
        (select count(*)::int from feedback where user_id = ${deletedUser.user.id}) as ratings,
        (select count(*)::int from sessions where user_id = ${deletedUser.user.id}) as sessions,
        (select count(*)::int from audit_events where actor_id = ${deletedUser.user.id} and ip_address is not null) as addresses`;
    return row;
  };
  // On a slow machine, the response is sent before the deletion is complete.
  const deadlineMs = performance.now() + 15_000;
  while ((await countRows())?.users !== 0 && performance.now() < deadlineMs) await Bun.sleep(50);
  expect(await countRows()).toEqual({ users: 0, keys: 0, ratings: 0, sessions: 0, addresses: 0 });
}, 30_000);

test("deleting a user removes their prompts from the conversations that used them", async () => {
  const deletedUser = await registerUser();
  const friend = await parley.register();
  const { body: prompt } = await createUserClient(deletedUser).request<{ id: string }>("POST", "/prompts", {
    name: "p",
    template: "be brief",
  });
  const { id } = await createConversation(parley, deletedUser, [friend], { prompt_id: prompt.id });
  expect((await createUserClient(friend).get(`/conversations/${id}`)).body).toMatchObject({ prompt_id: prompt.id });
  await deleteUser(deletedUser, "self");
  expect((await createUserClient(friend).get(`/conversations/${id}`)).body).toMatchObject({
    prompt_id: null,
    role: "owner",
  });
  expect(await parley.database`select 1 from prompts where id = ${prompt.id}`).toHaveLength(0);
});

test("deleting a user stops the answers that they requested in other users' conversations", async () => {
  const deletedUser = await registerUser();
  const friend = await parley.register();
  const { id } = await createConversation(parley, friend, [deletedUser]);
  const { id: ownId } = await createConversation(parley, deletedUser);
  const startAnswer = async (conversationId: string) => {
    await parley.database`update conversations set last_seq = 50 where id = ${conversationId}`;
    // The short lease simulates an instance that has just crashed.
    const answer = { conversationId, seq: 50, requestedBy: deletedUser.user.id, leaseMs: 1_000, text: "so far" };
    return insertAnswer(parley.database, answer);
  };
  const { id: generationId, message_id: messageId } = await startAnswer(id);
  const { id: ownGenerationId } = await startAnswer(ownId);
  await deleteUser(deletedUser, "self");
  const deadlineMs = Date.now() + 10_000;
  let message: { status?: string } = {};
  while (message.status !== "cancelled" && Date.now() < deadlineMs) {
    await Bun.sleep(200);
    message = (await createUserClient(friend).get<{ status: string }>(`/conversations/${id}/messages/${messageId}`))
      .body;
  }
  expect(message).toMatchObject({ status: "cancelled", finish_reason: "cancelled", content: "so far" });
  const remainingGenerations =
    await parley.database`select id from generations where id in (${generationId}, ${ownGenerationId})`;
  expect(remainingGenerations.map((row) => row.id)).toEqual([generationId]);
}, 20_000);

describe("deleting one's own account", () => {
  test("works without a password soon after the login, but fails with a wrong password", async () => {
    const account = await registerUser();
    const rest = createUserClient(account);
    expect(await rest.requestProblem("DELETE", "/me", { current_password: "wrong" })).toMatchObject({
      status: 403,
      code: "forbidden",
    });
    for (const json of [{ current_password: 1 }, { sure: true }, []])
      expect((await rest.requestProblem("DELETE", "/me", json)).status).toBe(422);
    expect((await parley.fetch("/api/v1/me", { method: "DELETE" })).status).toBe(401);
    expect((await rest.get("/me")).status).toBe(200);
    expect((await rest.request("DELETE", "/me")).status).toBe(204);
    expect((await rest.get("/me")).status).toBe(401);
    expect(
      (await parley.fetch("/api/v1/auth/refresh", { json: { refresh_token: account.refresh_token } })).status,
    ).toBe(401);
  });

  test("is forbidden with an API key", async () => {
    const account = await registerUser();
    const { body } = await createUserClient(account).request<{ key: string }>("POST", "/api-keys", {
      name: "k",
      scopes: ["users:write"],
    });
    expect((await parley.fetch("/api/v1/me", { method: "DELETE", token: body.key })).status).toBe(403);
    expect((await createUserClient(account).get("/me")).status).toBe(200);
  });
});
