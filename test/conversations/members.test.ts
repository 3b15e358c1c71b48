import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { createId } from "../../src/lib/id.ts";
import type { Conversation, Member } from "../../src/protocol/conversation.ts";
import { type Account, startApp, type TestApp } from "../support/app.ts";
import { createConversation } from "../support/conversation.ts";
import { countLockWaits } from "../support/postgres-locks.ts";
import { createRestClient, type RestClient } from "../support/rest.ts";
import { openSocket } from "../support/socket.ts";

let parley: TestApp;
let accounts: Account[];
let anna: RestClient;
let ben: RestClient;
let carl: RestClient;

beforeAll(async () => {
  parley = await startApp();
  accounts = await Promise.all(["Anna", "Ben", "Carl"].map((name) => parley.register(undefined, name)));
  [anna, ben, carl] = accounts.map((account) => createRestClient(parley, account)) as [
    RestClient,
    RestClient,
    RestClient,
  ];
});
afterAll(() => parley.stop());

/** Creates a conversation owned by Anna. Returns its path. */
async function createConversationWithMembers(...members: RestClient[]): Promise<string> {
  const memberAccounts = members.map(({ account }) => account);
  return `/conversations/${(await createConversation(parley, anna.account, memberAccounts)).id}`;
}
const parseConversationId = (path: string) => path.split("/")[2] ?? "";
const setRole = (path: string, member: RestClient, role: string) =>
  anna.request<Member>("POST", `${path}/members`, { user_id: member.id, role });
const listRoles = async (path: string) =>
  Object.fromEntries(
    (await anna.listAll<Member>(`${path}/members`, 2)).rows.map(({ user_id, role }) => [user_id, role]),
  );

describe("adding a member", () => {
  test("gives access to the whole conversation, and creates an event", async () => {
    const path = await createConversationWithMembers();
    await anna.request("POST", `${path}/messages`, { content: "before", reply: false });
    const { status, body } = await anna.request<Member>("POST", `${path}/members`, { user_id: ben.id });
    expect(status).toBe(201);
    expect(body).toEqual({
      user_id: ben.id,
      display_name: "Ben",
      role: "member",
      last_read_seq: 0,
      joined_at: expect.any(String),
    });
    const { body: events } = await ben.get<{ data: unknown[] }>(`${path}/events`);
    expect(events.data).toMatchObject([
      { type: "message.created", seq: 1 },
      { type: "member.added", seq: 2, data: body },
    ]);
    expect((await ben.get<Conversation>(path)).body.role).toBe("member");
  });

  test("changes nothing if the user already has the role", async () => {
    const path = await createConversationWithMembers(ben);
    expect((await setRole(path, ben, "member")).status).toBe(201);
    expect((await anna.get<Conversation>(path)).body.last_seq).toBe(1);
  });

  test("accepts a user id in uppercase", async () => {
    const path = await createConversationWithMembers();
    const response = await anna.request<Member>("POST", `${path}/members`, { user_id: ben.id.toUpperCase() });
    expect(response.body.user_id).toBe(ben.id);
    const socket = await openSocket(parley.url, { token: ben.account.access_token });
    await socket.request({ type: "subscribe", conversation_id: parseConversationId(path) });
    await anna.request(
      "DELETE",
      `${path.toUpperCase().replace("CONVERSATIONS", "conversations")}/members/${ben.id.toUpperCase()}`,
    );
    await socket.waitFor((frame) => frame.type === "member.removed");
    await anna.request("POST", `${path}/messages`, { content: "behind his back", reply: false });
    await socket.request({ type: "unsubscribe", conversation_id: parseConversationId(path) });
    expect(socket.list("message.created")).toEqual([]);
    await socket.close();
  });

  test("returns 404 if the user is unknown or disabled", async () => {
    const path = await createConversationWithMembers();
    expect(await anna.requestProblem("POST", `${path}/members`, { user_id: createId() })).toMatchObject({
      status: 404,
    });
    const disabledUser = await parley.register();
    await parley.database`update users set disabled_at = now() where id = ${disabledUser.user.id}`;
    expect(await anna.requestProblem("POST", `${path}/members`, { user_id: disabledUser.user.id })).toMatchObject({
      status: 404,
    });
    expect(await listRoles(path)).toEqual({ [anna.id]: "owner" });
  });

  const invalidInputs: [string, object, string][] = [
    ["no user", {}, "#/user_id"],
    ["an invalid id", { user_id: "me" }, "#/user_id"],
    ["an unknown role", { user_id: createId(), role: "admin" }, "#/role"],
    ["an unknown field", { user_id: createId(), email: "x" }, "#/email"],
  ];
  test.each(invalidInputs)("returns 422 for %s", async (_name, input, pointer) => {
    const path = await createConversationWithMembers();
    const problem = await anna.requestProblem("POST", `${path}/members`, input);
    expect(problem).toMatchObject({ status: 422, code: "invalid" });
    expect(problem.errors?.map((error) => error.pointer)).toContain(pointer);
  });

  test("adds the member to the list, which can have pages of any size", async () => {
    const path = await createConversationWithMembers(ben, carl);
    for (const limit of [1, 2, 3, 200]) {
      const { rows, pages } = await ben.listAll<Member>(`${path}/members`, limit);
      expect(rows.map(({ user_id }) => user_id)).toEqual([anna.id, ben.id, carl.id].sort());
      expect(pages).toHaveLength(Math.ceil(3 / limit));
    }
    const cursor = Buffer.from('["v1","x"]').toString("base64url");
    expect(await ben.requestProblem("GET", `${path}/members?cursor=${cursor}`)).toMatchObject({ code: "bad_cursor" });
  });
});

describe("roles", () => {
  test("let a viewer read but not write", async () => {
    const path = await createConversationWithMembers(ben);
    const sentMessage = await ben.request<{ message: { id: string } }>("POST", `${path}/messages`, {
      content: "a",
      reply: false,
    });
    const messagePath = `${path}/messages/${sentMessage.body.message.id}`;
    await setRole(path, ben, "viewer");
    for (const endpoint of [path, `${path}/members`, `${path}/messages`, messagePath, `${path}/events`])
      expect((await ben.get(endpoint)).status).toBe(200);
    const messagesBefore =
      await parley.database`select * from messages where conversation_id = ${parseConversationId(path)}`;
    for (const [method, endpoint, input] of [
      ["POST", `${path}/messages`, { content: "b" }],
      ["PATCH", messagePath, { content: "b" }],
      ["DELETE", messagePath],
      ["POST", `${messagePath}/cancel`],
      ["POST", `${messagePath}/regenerate`],
      ["PATCH", path, { title: "b" }],
      ["DELETE", path],
      ["POST", `${path}/members`, { user_id: carl.id }],
      ["DELETE", `${path}/members/${anna.id}`],
    ] as const)
      expect(await ben.requestProblem(method, endpoint, input)).toMatchObject({ status: 403, code: "forbidden" });
    expect(await parley.database`select * from messages where conversation_id = ${parseConversationId(path)}`).toEqual(
      messagesBefore,
    );
  });

  test("let a member write, but not change the conversation or its members", async () => {
    const path = await createConversationWithMembers(ben);
    for (const [method, endpoint, input] of [
      ["PATCH", path, { title: "b" }],
      ["PATCH", path, {}],
      ["DELETE", path],
      ["POST", `${path}/members`, { user_id: carl.id }],
      ["POST", `${path}/members`, { user_id: ben.id, role: "owner" }],
      ["DELETE", `${path}/members/${anna.id}`],
    ] as const)
      expect(await ben.requestProblem(method, endpoint, input)).toMatchObject({ status: 403, code: "forbidden" });
    expect((await anna.get<Conversation>(path)).body).toMatchObject({ last_seq: 1, title: "Test" });
    expect(await listRoles(path)).toEqual({ [anna.id]: "owner", [ben.id]: "member" });
  });

  test("apply immediately when they are changed, even to an open socket", async () => {
    const path = await createConversationWithMembers(ben);
    const conversation_id = parseConversationId(path);
    const socket = await openSocket(parley.url, { token: ben.account.access_token });
    await socket.request({ type: "subscribe", conversation_id });
    const sendMessage = () =>
      socket.request({ type: "message.send", conversation_id, content: "x", client_message_id: createId() });
    /** Sends a typing frame. @returns the error code, or null. */
    const sendTyping = async () => {
      const id = createId();
      socket.send({ type: "typing.start", id, conversation_id });
      await socket.request({ type: "unsubscribe", conversation_id: createId() });
      return socket.frames.find((frame) => frame.id === id)?.code ?? null;
    };
    expect([(await sendMessage()).type, await sendTyping()]).toEqual(["ack", null]);
    await setRole(path, ben, "viewer");
    expect(await socket.waitFor((frame) => frame.type === "member.added")).toMatchObject({
      data: { user_id: ben.id, role: "viewer" },
    });
    expect([(await sendMessage()).code, await sendTyping()]).toEqual(["forbidden", "forbidden"]);
    expect(socket.list("message.created")).toHaveLength(1);
    await setRole(path, ben, "owner");
    expect([(await sendMessage()).type, await sendTyping()]).toEqual(["ack", null]);
    expect((await ben.request("PATCH", path, { title: "Ben's" })).status).toBe(200);
    await socket.close();
  });

  test("don't let the last owner step down or leave", async () => {
    const path = await createConversationWithMembers(ben);
    const conflict = { status: 409, code: "conflict" };
    expect(await anna.requestProblem("POST", `${path}/members`, { user_id: anna.id, role: "member" })).toMatchObject(
      conflict,
    );
    expect(await anna.requestProblem("DELETE", `${path}/members/${anna.id}`)).toMatchObject(conflict);
    await setRole(path, ben, "owner");
    expect((await setRole(path, anna, "viewer")).status).toBe(201);
    expect(await ben.requestProblem("DELETE", `${path}/members/${ben.id}`)).toMatchObject(conflict);
    expect((await anna.request("DELETE", `${path}/members/${anna.id}`)).status).toBe(204);
  });

  test("still include an owner after two owners remove each other concurrently", async () => {
    for (let round = 0; round < 10; round += 1) {
      const path = await createConversationWithMembers();
      await setRole(path, ben, "owner");
      const responses = await Promise.all([
        anna.request("DELETE", `${path}/members/${ben.id}`),
        ben.request("DELETE", `${path}/members/${anna.id}`),
      ]);
      expect(responses.map(({ status }) => status).sort()).toEqual([204, 404]);
      const owners =
        await parley.database`select role from members where conversation_id = ${parseConversationId(path)}`;
      expect(owners.map(({ role }) => role)).toEqual(["owner"]);
    }
  });

  /** Regression test: a request read the role before it waited for the lock, so a revoked role still applied. */
  test("are checked after a request has waited for the conversation's lock", async () => {
    const path = await createConversationWithMembers();
    await setRole(path, ben, "owner");
    const sentMessage = await ben.request<{ message: { id: string } }>("POST", `${path}/messages`, {
      content: "a",
      reply: false,
    });
    const messagePath = `${path}/messages/${sentMessage.body.message.id}`;
    const attempts = [
      () => ben.requestProblem("PATCH", path, { title: "mine" }),
      () => ben.requestProblem("POST", `${path}/members`, { user_id: carl.id }),
      () => ben.requestProblem("DELETE", path),
      () => ben.requestProblem("PATCH", messagePath, { content: "b" }),
      () => ben.requestProblem("DELETE", messagePath),
      () => ben.requestProblem("POST", `${path}/messages`, { content: "late", reply: false }),
    ];
    for (const [role, expected] of [
      ["viewer", { status: 403 }],
      [null, { status: 404 }],
    ] as const) {
      await parley.database`update members set role = 'owner' where conversation_id = ${parseConversationId(path)} and user_id = ${ben.id}`;
      const waitForAttempts = await parley.database.begin(async (sql) => {
        await sql`update conversations set updated_at = now() where id = ${parseConversationId(path)}`;
        const pendingAttempts = attempts.map((attempt) => attempt());
        // The first change and the new message wait for the lock. The other changes are queued in the process.
        while ((await countLockWaits(parley)) < 2) await Bun.sleep(5);
        await Bun.sleep(100);
        if (role)
          await sql`update members set role = ${role} where conversation_id = ${parseConversationId(path)} and user_id = ${ben.id}`;
        else
          await sql`delete from members where conversation_id = ${parseConversationId(path)} and user_id = ${ben.id}`;
        return () => Promise.all(pendingAttempts);
      });
      for (const problem of await waitForAttempts()) expect(problem).toMatchObject(expected);
    }
    expect((await anna.get<Conversation>(path)).body).toMatchObject({ title: "Test", last_seq: 2 });
  });
});

describe("leaving a conversation", () => {
  test("revokes access immediately, and notifies the remaining members", async () => {
    const path = await createConversationWithMembers(ben, carl);
    const conversation_id = parseConversationId(path);
    const sockets = await Promise.all(
      [ben, carl].map(({ account }) => openSocket(parley.url, { token: account.access_token })),
    );
    for (const socket of sockets) await socket.request({ type: "subscribe", conversation_id });
    const [leavingSocket, remainingSocket] = sockets;
    expect((await ben.request("DELETE", `${path}/members/${ben.id}`)).status).toBe(204);
    const data = { user_id: ben.id, display_name: "Ben", role: "member" };
    for (const socket of sockets)
      expect(await socket.waitFor((frame) => frame.type === "member.removed")).toMatchObject({ seq: 3, data });
    await anna.request("POST", `${path}/messages`, { content: "without Ben", reply: false });
    await remainingSocket?.waitFor((frame) => frame.type === "message.created");
    expect(await leavingSocket?.request({ type: "subscribe", conversation_id, after_seq: 0 })).toMatchObject({
      code: "not_found",
    });
    expect(leavingSocket?.list("message.created")).toEqual([]);
    for (const endpoint of [path, `${path}/members`, `${path}/messages`, `${path}/events`])
      expect(await ben.requestProblem("GET", endpoint)).toMatchObject({ status: 404 });
    expect(await ben.requestProblem("DELETE", `${path}/members/${ben.id}`)).toMatchObject({ status: 404 });
    for (const socket of sockets) await socket.close();
  });

  test("can be undone by rejoining, which restores access to the whole conversation", async () => {
    const path = await createConversationWithMembers(ben);
    await ben.request("DELETE", `${path}/members/${ben.id}`);
    await anna.request("POST", `${path}/messages`, { content: "while he was away", reply: false });
    await setRole(path, ben, "viewer");
    const { body } = await ben.get<{ data: { type: string; seq: number }[] }>(`${path}/events`);
    expect(body.data.map(({ type, seq }) => [seq, type])).toEqual([
      [1, "member.added"],
      [2, "member.removed"],
      [3, "message.created"],
      [4, "member.added"],
    ]);
  });

  test("fails with 404 for a user who isn't a member", async () => {
    const path = await createConversationWithMembers();
    expect(await anna.requestProblem("DELETE", `${path}/members/${ben.id}`)).toMatchObject({ status: 404 });
  });
});
