import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { type Account, startApp, TEST_PASSWORD, type TestApp } from "../support/app.ts";
import { createConversation } from "../support/conversation.ts";
import { listShown, openInbox, type TestInbox, waitForList } from "../support/inbox.ts";
import { createRest, type Rest } from "../support/rest.ts";
import { openSocket } from "../support/socket.ts";

let parley: TestApp;
let anna: Account;
let ben: Account;
let rest: Rest;
let ofBen: Rest;
let inbox: TestInbox;

beforeAll(async () => {
  parley = await startApp();
  [anna, ben] = await Promise.all([parley.register(undefined, "Anna"), parley.register(undefined, "Ben")]);
  rest = createRest(parley, anna);
  ofBen = createRest(parley, ben);
  inbox = await openInbox(parley, ben);
});
afterAll(async () => {
  await inbox.close();
  await parley.stop();
});

const send = async (by: Rest, id: string, content = "Hello.") =>
  (await by.request<{ message: { id: string; seq: number } }>("POST", `/conversations/${id}/messages`, { content }))
    .body.message;

const create = async (members: Account[] = [ben]): Promise<string> =>
  (await createConversation(parley, anna, members)).id;

// Concurrent, because each waits for frames that come a second later.
describe.concurrent("an inbox", () => {
  test("receives a conversation to which its user is added, and its new messages", async () => {
    const id = await create();
    const added = await inbox.waitForChange({ conversation_id: id, change: "added" });
    expect(added).toMatchObject({ title: "Test", last_seq: 1, last_read_seq: 0, unread: 0 });
    const { seq } = await send(rest, id);
    const updated = await inbox.waitForChange({ conversation_id: id, change: "updated", last_seq: seq });
    expect(updated).toMatchObject({ unread: 1, last_read_seq: 0 });
    expect(Object.keys(updated).sort()).toEqual(
      ["change", "conversation_id", "last_read_seq", "last_seq", "title", "type", "unread", "updated_at"].sort(),
    );
  });

  test("receives a conversation that its user creates on another device, and its deletion there", async () => {
    const { id } = await createConversation(parley, ben, [], { title: "Mine" });
    expect(await inbox.waitForChange({ conversation_id: id })).toMatchObject({
      change: "added",
      title: "Mine",
      last_seq: 0,
    });
    await ofBen.request("DELETE", `/conversations/${id}`);
    expect(await inbox.waitForChange({ conversation_id: id, change: "removed" })).toMatchObject({
      title: "",
      last_seq: 1,
      unread: 0,
    });
  });

  test("receives a new title, edits, deletions, and a read position moved on another device", async () => {
    const id = await create();
    const message = await send(rest, id);
    await send(rest, id);
    await inbox.waitForChange({ conversation_id: id, unread: 2 });
    await rest.request("PATCH", `/conversations/${id}`, { title: "Plans" });
    await inbox.waitForChange({ conversation_id: id, title: "Plans", change: "updated" });
    await rest.request("DELETE", `/conversations/${id}/messages/${message.id}`);
    await inbox.waitForChange({ conversation_id: id, unread: 1, title: "Plans" });
    const other = await openSocket(parley.url, { token: ben.access_token });
    const { last_read_seq } = await other.request({ type: "read", conversation_id: id, seq: 3 });
    expect(last_read_seq).toBe(3);
    expect(await inbox.waitForChange({ conversation_id: id, last_read_seq: 3 })).toMatchObject({ unread: 0 });
    expect(other.list("inbox")).toEqual([]);
    await other.close();
  });

  test("receives one last frame when the membership ends, and none after it", async () => {
    const id = await create();
    await inbox.waitForChange({ conversation_id: id });
    await send(rest, id);
    await rest.request("DELETE", `/conversations/${id}/members/${ben.user.id}`);
    await rest.request("PATCH", `/conversations/${id}`, { title: "Without Ben" });
    await send(rest, id);
    const removed = await inbox.waitForChange({ conversation_id: id, change: "removed" });
    // The event that ended the membership, none later.
    expect(removed).toMatchObject({ title: "", last_seq: 3, last_read_seq: 3, unread: 0 });
    await send(rest, id);
    await send(rest, await create());
    await Bun.sleep(1_300);
    expect(inbox.list(id).at(-1)?.change).toBe("removed");
    expect(JSON.stringify(inbox.list(id))).not.toContain("Without Ben");
    // After rejoining: the conversation is new to the list, with the earlier read position.
    await rest.request("POST", `/conversations/${id}/members`, { user_id: ben.user.id });
    await inbox.waitFor((frame) => frame.conversation_id === id && frame.title === "Without Ben");
    expect(inbox.list(id).at(-1)).toMatchObject({ change: "added" });
  });

  test("receives a new role as a change, not as a new conversation", async () => {
    const id = await create();
    await inbox.waitForChange({ conversation_id: id, change: "added" });
    await rest.request("POST", `/conversations/${id}/members`, { user_id: ben.user.id, role: "viewer" });
    await inbox.waitForChange({ conversation_id: id, last_seq: 2, change: "updated" });
    expect(inbox.list(id).map(({ change }) => change)).toEqual(["added", "updated"]);
  });

  test("receives the deletion of a conversation that was idle since the subscription", async () => {
    const id = await create();
    await inbox.waitForChange({ conversation_id: id });
    const late = await openInbox(parley, ben);
    await rest.request("DELETE", `/conversations/${id}`);
    expect(await late.waitForChange({ conversation_id: id })).toMatchObject({ change: "removed", last_seq: 2 });
    await late.close();
  });

  test("receives few frames of a burst, and the last one is right", async () => {
    const id = await create();
    await inbox.waitForChange({ conversation_id: id });
    const sender = await openSocket(parley.url, { token: anna.access_token });
    await Promise.all(
      Array.from({ length: 200 }, (_, n) =>
        sender.request({ type: "message.send", conversation_id: id, client_message_id: `${n}`, content: `${n}` }),
      ),
    );
    expect(await inbox.waitForChange({ conversation_id: id, last_seq: 201 })).toMatchObject({ unread: 200 });
    const times = inbox.list(id).map(({ last_seq }) => last_seq);
    // One for each second of the burst, however slow the machine is, and never one per message.
    expect(times.length).toBeLessThan(50);
    await sender.close();
  });

  test("works alongside a subscription to the same conversation", async () => {
    const id = await create();
    const both = await openInbox(parley, ben);
    await both.request({ type: "subscribe", conversation_id: id });
    const { seq } = await send(rest, id);
    await both.waitForChange({ conversation_id: id, last_seq: seq });
    expect((await both.waitFor(({ type }) => type === "message.created")).seq).toBe(seq);
    await both.close();
  });

  test("sends frames to every socket of a user until it unsubscribes", async () => {
    const [one, other] = [await openInbox(parley, ben), await openInbox(parley, ben)];
    const id = await create();
    await Promise.all([one, other].map((each) => each.waitForChange({ conversation_id: id })));
    expect(await one.request({ type: "inbox.unsubscribe" })).toMatchObject({ type: "ack" });
    await send(rest, id);
    await other.waitForChange({ conversation_id: id, unread: 1 });
    expect(one.list(id)).toHaveLength(1);
    expect(await one.request({ type: "inbox.subscribe" })).toMatchObject({ type: "ack" });
    await send(rest, id);
    await one.waitForChange({ conversation_id: id, unread: 2 });
    await Promise.all([one.close(), other.close()]);
  });

  test("sends nothing to an outsider", async () => {
    const eve = await parley.register();
    const outside = await openInbox(parley, eve);
    const id = await create();
    await send(rest, id);
    await inbox.waitForChange({ conversation_id: id, unread: 1 });
    await rest.request("DELETE", `/conversations/${id}`);
    await inbox.waitForChange({ conversation_id: id, change: "removed" });
    expect(outside.list()).toEqual([]);
    await outside.close();
  });

  test("acks the subscription with the total unread count, up to 1,000", async () => {
    const clara = await parley.register();
    const ids = [await create([clara]), await create([clara]), await create([clara])];
    await send(rest, ids[0] ?? "");
    const { id } = await send(rest, ids[0] ?? "");
    for (let n = 0; n < 3; n += 1) await send(rest, ids[1] ?? "");
    await rest.request("DELETE", `/conversations/${ids[0]}/messages/${id}`);
    const first = await openInbox(parley, clara);
    expect(first.unread).toBe(4);
    await parley.database`update conversations set message_count = message_count + 2000 where id = ${ids[2] ?? ""}`;
    const second = await openInbox(parley, clara);
    expect(second.unread).toBe(1_000);
    await Promise.all([first.close(), second.close()]);
  });

  test("sends nothing after its session has ended", async () => {
    const answer = await parley.fetch("/api/v1/auth/login", {
      json: { email: ben.user.email, password: TEST_PASSWORD },
    });
    const session = (await answer.json()) as Account;
    const ending = await openInbox(parley, session);
    await parley.fetch("/api/v1/auth/logout", {
      token: session.access_token,
      json: { refresh_token: session.refresh_token },
    });
    expect((await ending.closed).code).toBe(4506);
    const id = await create();
    await inbox.waitForChange({ conversation_id: id });
    expect(ending.list(id)).toEqual([]);
  });

  test("needs the scope to read conversations", async () => {
    const { body } = await ofBen.request<{ key: string }>("POST", "/api-keys", {
      name: "K",
      scopes: ["messages:read"],
    });
    const socket = await openSocket(parley.url, { token: body.key });
    expect(await socket.request({ type: "inbox.subscribe" })).toMatchObject({ type: "error", code: "forbidden" });
    await socket.close();
  });
});

test("an inbox ends up equal to the list of conversations", async () => {
  expect(Object.keys(await listShown(parley, ben)).length).toBeGreaterThan(5);
  await waitForList(inbox, parley);
});
