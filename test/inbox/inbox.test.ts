import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { type Account, startApp, TEST_PASSWORD, type TestApp } from "../support/app.ts";
import { createConversation } from "../support/conversation.ts";
import { listConversations, openInbox, type TestInbox, waitForInboxToMatchList } from "../support/inbox.ts";
import { createRestClient, type RestClient } from "../support/rest.ts";
import { openSocket } from "../support/socket.ts";

let parley: TestApp;
let anna: Account;
let ben: Account;
let rest: RestClient;
let benRest: RestClient;
let inbox: TestInbox;

beforeAll(async () => {
  parley = await startApp();
  [anna, ben] = await Promise.all([parley.register(undefined, "Anna"), parley.register(undefined, "Ben")]);
  rest = createRestClient(parley, anna);
  benRest = createRestClient(parley, ben);
  inbox = await openInbox(parley, ben);
});
afterAll(async () => {
  await inbox.close();
  await parley.stop();
});

const send = async (by: RestClient, id: string, content = "Hello.") =>
  (await by.request<{ message: { id: string; seq: number } }>("POST", `/conversations/${id}/messages`, { content }))
    .body.message;

const create = async (members: Account[] = [ben]): Promise<string> =>
  (await createConversation(parley, anna, members)).id;

// The tests run concurrently, because each waits for frames that arrive a second later.
describe.concurrent("an inbox", () => {
  test("receives a frame when its user is added to a conversation and when a message is sent", async () => {
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

  test("receives a frame when the user creates or deletes a conversation on another device", async () => {
    const { id } = await createConversation(parley, ben, [], { title: "Mine" });
    expect(await inbox.waitForChange({ conversation_id: id })).toMatchObject({
      change: "added",
      title: "Mine",
      last_seq: 0,
    });
    await benRest.request("DELETE", `/conversations/${id}`);
    expect(await inbox.waitForChange({ conversation_id: id, change: "removed" })).toMatchObject({
      title: "",
      last_seq: 1,
      unread: 0,
    });
  });

  test("receives a frame for a new title, a deleted message, and a read position from another device", async () => {
    const id = await create();
    const message = await send(rest, id);
    await send(rest, id);
    await inbox.waitForChange({ conversation_id: id, unread: 2 });
    await rest.request("PATCH", `/conversations/${id}`, { title: "Plans" });
    await inbox.waitForChange({ conversation_id: id, title: "Plans", change: "updated" });
    await rest.request("DELETE", `/conversations/${id}/messages/${message.id}`);
    await inbox.waitForChange({ conversation_id: id, unread: 1, title: "Plans" });
    const otherSocket = await openSocket(parley.url, { token: ben.access_token });
    const { last_read_seq } = await otherSocket.request({ type: "read", conversation_id: id, seq: 3 });
    expect(last_read_seq).toBe(3);
    expect(await inbox.waitForChange({ conversation_id: id, last_read_seq: 3 })).toMatchObject({ unread: 0 });
    expect(otherSocket.list("inbox")).toEqual([]);
    await otherSocket.close();
  });

  test("receives one last frame when its user is removed", async () => {
    const id = await create();
    await inbox.waitForChange({ conversation_id: id });
    await send(rest, id);
    await rest.request("DELETE", `/conversations/${id}/members/${ben.user.id}`);
    await rest.request("PATCH", `/conversations/${id}`, { title: "Without Ben" });
    await send(rest, id);
    const removed = await inbox.waitForChange({ conversation_id: id, change: "removed" });
    // last_seq is the sequence number of the removal.
    expect(removed).toMatchObject({ title: "", last_seq: 3, last_read_seq: 3, unread: 0 });
    await send(rest, id);
    await send(rest, await create());
    await Bun.sleep(1_300);
    expect(inbox.list(id).at(-1)?.change).toBe("removed");
    expect(JSON.stringify(inbox.list(id))).not.toContain("Without Ben");
    // After rejoining, the conversation is added to the list again.
    await rest.request("POST", `/conversations/${id}/members`, { user_id: ben.user.id });
    await inbox.waitFor((frame) => frame.conversation_id === id && frame.title === "Without Ben");
    expect(inbox.list(id).at(-1)).toMatchObject({ change: "added" });
  });

  test("receives a frame for a new role as a change, not as a new conversation", async () => {
    const id = await create();
    await inbox.waitForChange({ conversation_id: id, change: "added" });
    await rest.request("POST", `/conversations/${id}/members`, { user_id: ben.user.id, role: "viewer" });
    await inbox.waitForChange({ conversation_id: id, last_seq: 2, change: "updated" });
    expect(inbox.list(id).map(({ change }) => change)).toEqual(["added", "updated"]);
  });

  test("receives the deletion of a conversation that was idle since the subscription", async () => {
    const id = await create();
    await inbox.waitForChange({ conversation_id: id });
    const newInbox = await openInbox(parley, ben);
    await rest.request("DELETE", `/conversations/${id}`);
    expect(await newInbox.waitForChange({ conversation_id: id })).toMatchObject({ change: "removed", last_seq: 2 });
    await newInbox.close();
  });

  test("receives few frames during a burst, and the last one has the final state", async () => {
    const id = await create();
    await inbox.waitForChange({ conversation_id: id });
    const sender = await openSocket(parley.url, { token: anna.access_token });
    await Promise.all(
      Array.from({ length: 200 }, (_, n) =>
        sender.request({ type: "message.send", conversation_id: id, client_message_id: `${n}`, content: `${n}` }),
      ),
    );
    expect(await inbox.waitForChange({ conversation_id: id, last_seq: 201 })).toMatchObject({ unread: 200 });
    const frameSeqs = inbox.list(id).map(({ last_seq }) => last_seq);
    // One frame for each second of the burst, which takes longer on a slow machine, but never one per message.
    expect(frameSeqs.length).toBeLessThan(50);
    await sender.close();
  });

  test("works alongside a subscription to the same conversation", async () => {
    const id = await create();
    const subscribedInbox = await openInbox(parley, ben);
    await subscribedInbox.request({ type: "subscribe", conversation_id: id });
    const { seq } = await send(rest, id);
    await subscribedInbox.waitForChange({ conversation_id: id, last_seq: seq });
    expect((await subscribedInbox.waitFor(({ type }) => type === "message.created")).seq).toBe(seq);
    await subscribedInbox.close();
  });

  test("receives frames on each of its user's sockets until the socket unsubscribes", async () => {
    const [first, second] = [await openInbox(parley, ben), await openInbox(parley, ben)];
    const id = await create();
    await Promise.all([first, second].map((each) => each.waitForChange({ conversation_id: id })));
    expect(await first.request({ type: "inbox.unsubscribe" })).toMatchObject({ type: "ack" });
    await send(rest, id);
    await second.waitForChange({ conversation_id: id, unread: 1 });
    expect(first.list(id)).toHaveLength(1);
    expect(await first.request({ type: "inbox.subscribe" })).toMatchObject({ type: "ack" });
    await send(rest, id);
    await first.waitForChange({ conversation_id: id, unread: 2 });
    await Promise.all([first.close(), second.close()]);
  });

  test("receives nothing about conversations of which its user isn't a member", async () => {
    const eve = await parley.register();
    const outsiderInbox = await openInbox(parley, eve);
    const id = await create();
    await send(rest, id);
    await inbox.waitForChange({ conversation_id: id, unread: 1 });
    await rest.request("DELETE", `/conversations/${id}`);
    await inbox.waitForChange({ conversation_id: id, change: "removed" });
    expect(outsiderInbox.list()).toEqual([]);
    await outsiderInbox.close();
  });

  test("receives the total unread count, up to 1,000, in the ack of its subscription", async () => {
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

  test("receives nothing after its user has logged out", async () => {
    const response = await parley.fetch("/api/v1/auth/login", {
      json: { email: ben.user.email, password: TEST_PASSWORD },
    });
    const session = (await response.json()) as Account;
    const closingInbox = await openInbox(parley, session);
    await parley.fetch("/api/v1/auth/logout", {
      token: session.access_token,
      json: { refresh_token: session.refresh_token },
    });
    expect((await closingInbox.closed).code).toBe(4506);
    const id = await create();
    await inbox.waitForChange({ conversation_id: id });
    expect(closingInbox.list(id)).toEqual([]);
  });

  test("requires the scope conversations:read", async () => {
    const { body } = await benRest.request<{ key: string }>("POST", "/api-keys", {
      name: "K",
      scopes: ["messages:read"],
    });
    const socket = await openSocket(parley.url, { token: body.key });
    expect(await socket.request({ type: "inbox.subscribe" })).toMatchObject({ type: "error", code: "forbidden" });
    await socket.close();
  });
});

test("an inbox matches the list of conversations after many kinds of changes", async () => {
  expect(Object.keys(await listConversations(parley, ben)).length).toBeGreaterThan(5);
  await waitForInboxToMatchList(inbox, parley);
});
