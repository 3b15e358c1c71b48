import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { createId } from "../../src/lib/id.ts";
import type { Conversation, Member } from "../../src/protocol/conversation.ts";
import { type Account, startApp, type TestApp } from "../support/app.ts";
import { createConversation } from "../support/conversation.ts";
import { countWaiting } from "../support/postgres-locks.ts";
import { createRest, type Rest } from "../support/rest.ts";
import { openSocket } from "../support/socket.ts";

let parley: TestApp;
let accounts: Account[];
let anna: Rest;
let ben: Rest;
let carl: Rest;

beforeAll(async () => {
  parley = await startApp();
  accounts = await Promise.all(["Anna", "Ben", "Carl"].map((name) => parley.register(undefined, name)));
  [anna, ben, carl] = accounts.map((account) => createRest(parley, account)) as [Rest, Rest, Rest];
});
afterAll(() => parley.stop());

async function start(...members: Rest[]): Promise<string> {
  const joined = members.map(({ account }) => account);
  return `/conversations/${(await createConversation(parley, anna.account, joined)).id}`;
}
const idOf = (path: string) => path.split("/")[2] ?? "";
const setRole = (path: string, rest: Rest, role: string, by: Rest = anna) =>
  by.request<Member>("POST", `${path}/members`, { user_id: rest.id, role });
const listRoles = async (path: string) =>
  Object.fromEntries((await anna.all<Member>(`${path}/members`, 2)).rows.map(({ user_id, role }) => [user_id, role]));

describe("adding", () => {
  test("gives access to everything, and creates an event", async () => {
    const path = await start();
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

  test("a member again with the same role changes nothing", async () => {
    const path = await start(ben);
    expect((await setRole(path, ben, "member")).status).toBe(201);
    expect((await anna.get<Conversation>(path)).body.last_seq).toBe(1);
  });

  test("accepts a user id in uppercase", async () => {
    const path = await start();
    const added = await anna.request<Member>("POST", `${path}/members`, { user_id: ben.id.toUpperCase() });
    expect(added.body.user_id).toBe(ben.id);
    const socket = await openSocket(parley.url, { token: ben.account.access_token });
    await socket.request({ type: "subscribe", conversation_id: idOf(path) });
    await anna.request(
      "DELETE",
      `${path.toUpperCase().replace("CONVERSATIONS", "conversations")}/members/${ben.id.toUpperCase()}`,
    );
    await socket.waitFor((frame) => frame.type === "member.removed");
    await anna.request("POST", `${path}/messages`, { content: "behind his back", reply: false });
    await socket.request({ type: "unsubscribe", conversation_id: idOf(path) });
    expect(socket.list("message.created")).toEqual([]);
    await socket.close();
  });

  test("an unknown or disabled user is 404", async () => {
    const path = await start();
    expect(await anna.refused("POST", `${path}/members`, { user_id: createId() })).toMatchObject({ status: 404 });
    const gone = await parley.register();
    await parley.database`update users set disabled_at = now() where id = ${gone.user.id}`;
    expect(await anna.refused("POST", `${path}/members`, { user_id: gone.user.id })).toMatchObject({ status: 404 });
    expect(await listRoles(path)).toEqual({ [anna.id]: "owner" });
  });

  const invalid: [string, object, string][] = [
    ["nobody", {}, "#/user_id"],
    ["an invalid id", { user_id: "me" }, "#/user_id"],
    ["an unknown role", { user_id: createId(), role: "admin" }, "#/role"],
    ["an unknown field", { user_id: createId(), email: "x" }, "#/email"],
  ];
  test.each(invalid)("%s is 422", async (_name, input, pointer) => {
    const path = await start();
    const problem = await anna.refused("POST", `${path}/members`, input);
    expect(problem).toMatchObject({ status: 422, code: "invalid" });
    expect(problem.errors?.map((error) => error.pointer)).toContain(pointer);
  });

  test("the list has pages of any size", async () => {
    const path = await start(ben, carl);
    for (const limit of [1, 2, 3, 200]) {
      const { rows, pages } = await ben.all<Member>(`${path}/members`, limit);
      expect(rows.map(({ user_id }) => user_id)).toEqual([anna.id, ben.id, carl.id].sort());
      expect(pages).toHaveLength(Math.ceil(3 / limit));
    }
    const cursor = Buffer.from('["v1","x"]').toString("base64url");
    expect(await ben.refused("GET", `${path}/members?cursor=${cursor}`)).toMatchObject({ code: "bad_cursor" });
  });
});

describe("roles", () => {
  test("a viewer can read and subscribe, but write nothing, not even edit earlier messages", async () => {
    const path = await start(ben);
    const sent = await ben.request<{ message: { id: string } }>("POST", `${path}/messages`, {
      content: "a",
      reply: false,
    });
    const message = `${path}/messages/${sent.body.message.id}`;
    await setRole(path, ben, "viewer");
    for (const address of [path, `${path}/members`, `${path}/messages`, message, `${path}/events`])
      expect((await ben.get(address)).status).toBe(200);
    const before = await parley.database`select * from messages where conversation_id = ${idOf(path)}`;
    for (const [method, address, input] of [
      ["POST", `${path}/messages`, { content: "b" }],
      ["PATCH", message, { content: "b" }],
      ["DELETE", message],
      ["POST", `${message}/cancel`],
      ["POST", `${message}/regenerate`],
      ["PATCH", path, { title: "b" }],
      ["DELETE", path],
      ["POST", `${path}/members`, { user_id: carl.id }],
      ["DELETE", `${path}/members/${anna.id}`],
    ] as const)
      expect(await ben.refused(method, address, input)).toMatchObject({ status: 403, code: "forbidden" });
    expect(await parley.database`select * from messages where conversation_id = ${idOf(path)}`).toEqual(before);
  });

  test("a member can write, but change neither the conversation nor its members", async () => {
    const path = await start(ben);
    for (const [method, address, input] of [
      ["PATCH", path, { title: "b" }],
      ["PATCH", path, {}],
      ["DELETE", path],
      ["POST", `${path}/members`, { user_id: carl.id }],
      ["POST", `${path}/members`, { user_id: ben.id, role: "owner" }],
      ["DELETE", `${path}/members/${anna.id}`],
    ] as const)
      expect(await ben.refused(method, address, input)).toMatchObject({ status: 403, code: "forbidden" });
    expect((await anna.get<Conversation>(path)).body).toMatchObject({ last_seq: 1, title: "Test" });
    expect(await listRoles(path)).toEqual({ [anna.id]: "owner", [ben.id]: "member" });
  });

  test("a changed role applies immediately, also to an open socket", async () => {
    const path = await start(ben);
    const conversation_id = idOf(path);
    const socket = await openSocket(parley.url, { token: ben.account.access_token });
    await socket.request({ type: "subscribe", conversation_id });
    const send = () =>
      socket.request({ type: "message.send", conversation_id, content: "x", client_message_id: createId() });
    /** Sends a typing frame. @returns the error code, or null. */
    const sendTyping = async () => {
      const id = createId();
      socket.send({ type: "typing.start", id, conversation_id });
      await socket.request({ type: "unsubscribe", conversation_id: createId() });
      return socket.frames.find((frame) => frame.id === id)?.code ?? null;
    };
    expect([(await send()).type, await sendTyping()]).toEqual(["ack", null]);
    await setRole(path, ben, "viewer");
    expect(await socket.waitFor((frame) => frame.type === "member.added")).toMatchObject({
      data: { user_id: ben.id, role: "viewer" },
    });
    expect([(await send()).code, await sendTyping()]).toEqual(["forbidden", "forbidden"]);
    expect(socket.list("message.created")).toHaveLength(1);
    await setRole(path, ben, "owner");
    expect([(await send()).type, await sendTyping()]).toEqual(["ack", null]);
    expect((await ben.request("PATCH", path, { title: "Ben's" })).status).toBe(200);
    await socket.close();
  });

  test("the last owner can neither step down nor leave; with two owners, one can", async () => {
    const path = await start(ben);
    const conflict = { status: 409, code: "conflict" };
    expect(await anna.refused("POST", `${path}/members`, { user_id: anna.id, role: "member" })).toMatchObject(conflict);
    expect(await anna.refused("DELETE", `${path}/members/${anna.id}`)).toMatchObject(conflict);
    await setRole(path, ben, "owner");
    expect((await setRole(path, anna, "viewer")).status).toBe(201);
    expect(await ben.refused("DELETE", `${path}/members/${ben.id}`)).toMatchObject(conflict);
    expect((await anna.request("DELETE", `${path}/members/${anna.id}`)).status).toBe(204);
  });

  test("of two owners who remove each other concurrently, one stays", async () => {
    for (let round = 0; round < 10; round += 1) {
      const path = await start();
      await setRole(path, ben, "owner");
      const answers = await Promise.all([
        anna.request("DELETE", `${path}/members/${ben.id}`),
        ben.request("DELETE", `${path}/members/${anna.id}`),
      ]);
      expect(answers.map(({ status }) => status).sort()).toEqual([204, 404]);
      const owners = await parley.database`select role from members where conversation_id = ${idOf(path)}`;
      expect(owners.map(({ role }) => role)).toEqual(["owner"]);
    }
  });

  /** Regression: the role was read before waiting for the lock, so a revoked role was still used. */
  test("a role revoked while a request is queued no longer applies", async () => {
    const path = await start();
    await setRole(path, ben, "owner");
    const sent = await ben.request<{ message: { id: string } }>("POST", `${path}/messages`, {
      content: "a",
      reply: false,
    });
    const message = `${path}/messages/${sent.body.message.id}`;
    const attempts = [
      () => ben.refused("PATCH", path, { title: "mine" }),
      () => ben.refused("POST", `${path}/members`, { user_id: carl.id }),
      () => ben.refused("DELETE", path),
      () => ben.refused("PATCH", message, { content: "b" }),
      () => ben.refused("DELETE", message),
      () => ben.refused("POST", `${path}/messages`, { content: "late", reply: false }),
    ];
    for (const [role, expected] of [
      ["viewer", { status: 403 }],
      [null, { status: 404 }],
    ] as const) {
      await parley.database`update members set role = 'owner' where conversation_id = ${idOf(path)} and user_id = ${ben.id}`;
      const waiting = await parley.database.begin(async (sql) => {
        await sql`update conversations set updated_at = now() where id = ${idOf(path)}`;
        const started = attempts.map((attempt) => attempt());
        // The first change, and the lane of the send; other changes wait within the process.
        while ((await countWaiting(parley)) < 2) await Bun.sleep(5);
        await Bun.sleep(100);
        if (role)
          await sql`update members set role = ${role} where conversation_id = ${idOf(path)} and user_id = ${ben.id}`;
        else await sql`delete from members where conversation_id = ${idOf(path)} and user_id = ${ben.id}`;
        return () => Promise.all(started);
      });
      for (const problem of await waiting()) expect(problem).toMatchObject(expected);
    }
    expect((await anna.get<Conversation>(path)).body).toMatchObject({ title: "Test", last_seq: 2 });
  });
});

describe("leaving", () => {
  test("ends access and pushes immediately; the remaining members are notified", async () => {
    const path = await start(ben, carl);
    const conversation_id = idOf(path);
    const sockets = await Promise.all(
      [ben, carl].map(({ account }) => openSocket(parley.url, { token: account.access_token })),
    );
    for (const socket of sockets) await socket.request({ type: "subscribe", conversation_id });
    const [leaving, staying] = sockets;
    expect((await ben.request("DELETE", `${path}/members/${ben.id}`)).status).toBe(204);
    const data = { user_id: ben.id, display_name: "Ben", role: "member" };
    for (const socket of sockets)
      expect(await socket.waitFor((frame) => frame.type === "member.removed")).toMatchObject({ seq: 3, data });
    await anna.request("POST", `${path}/messages`, { content: "without Ben", reply: false });
    await staying?.waitFor((frame) => frame.type === "message.created");
    expect(await leaving?.request({ type: "subscribe", conversation_id, after_seq: 0 })).toMatchObject({
      code: "not_found",
    });
    expect(leaving?.list("message.created")).toEqual([]);
    for (const address of [path, `${path}/members`, `${path}/messages`, `${path}/events`])
      expect(await ben.refused("GET", address)).toMatchObject({ status: 404 });
    expect(await ben.refused("DELETE", `${path}/members/${ben.id}`)).toMatchObject({ status: 404 });
    for (const socket of sockets) await socket.close();
  });

  test("and rejoining restores access to everything", async () => {
    const path = await start(ben);
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

  test("by a non-member is 404", async () => {
    const path = await start();
    expect(await anna.refused("DELETE", `${path}/members/${ben.id}`)).toMatchObject({ status: 404 });
  });
});
