import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { type Account, startApp, TEST_PASSWORD, type TestApp } from "../support/app.ts";
import { createConversation } from "../support/conversation.ts";
import { listConversations, openInbox, type TestInbox, waitForInboxToMatchList } from "../support/inbox.ts";
import { createRestClient, type RestClient } from "../support/rest.ts";
import { openSocket } from "../support/socket.ts";

let parley: TestApp;
let anna: Account;
let ben: Account;
let restClient: RestClient;
let benRest: RestClient;
let inbox: TestInbox;

beforeAll(async () => {
  parley = await startApp();
  [anna, ben] = await Promise.all([parley.register(undefined, "Anna"), parley.register(undefined, "Ben")]);
  restClient = createRestClient(parley, anna);
  benRest = createRestClient(parley, ben);
  inbox = await openInbox(parley, ben);
});
afterAll(async () => {
  await inbox.close();
  await parley.stop();
});

const sendMessage = async (sender: RestClient, id: string, content = "Hello.") =>
  (await sender.request<{ message: { id: string; seq: number } }>("POST", `/conversations/${id}/messages`, { content }))
    .body.message;

const createTestConversation = async (members: Account[] = [ben]): Promise<string> =>
  (await createConversation(parley, anna, members)).id;

// The tests run concurrently, because each waits for frames that arrive a second later.
describe.concurrent("an inbox", () => {
  test("receives a frame when its user is added to a conversation and when a message is sent", async () => {
    const id = await createTestConversation();
    const addedFrame = await inbox.waitForChange({ conversation_id: id, change: "added" });
    expect(addedFrame).toMatchObject({ title: "Test", last_seq: 1, last_read_seq: 0, unread: 0 });
    const { seq } = await sendMessage(restClient, id);
    const updatedFrame = await inbox.waitForChange({ conversation_id: id, change: "updated", last_seq: seq });
    expect(updatedFrame).toMatchObject({ unread: 1, last_read_seq: 0 });
    expect(Object.keys(updatedFrame).sort()).toEqual(
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
    const id = await createTestConversation();
    const message = await sendMessage(restClient, id);
    await sendMessage(restClient, id);
    await inbox.waitForChange({ conversation_id: id, unread: 2 });
    await restClient.request("PATCH", `/conversations/${id}`, { title: "Plans" });
    await inbox.waitForChange({ conversation_id: id, title: "Plans", change: "updated" });
    await restClient.request("DELETE", `/conversations/${id}/messages/${message.id}`);
    await inbox.waitForChange({ conversation_id: id, unread: 1, title: "Plans" });
    const otherSocket = await openSocket(parley.url, { token: ben.access_token });
    const { last_read_seq } = await otherSocket.request({ type: "read", conversation_id: id, seq: 3 });
    expect(last_read_seq).toBe(3);
    expect(await inbox.waitForChange({ conversation_id: id, last_read_seq: 3 })).toMatchObject({ unread: 0 });
    expect(otherSocket.list("inbox")).toEqual([]);
    await otherSocket.close();
  });

  test("receives one last frame when its user is removed", async () => {
    const id = await createTestConversation();
    await inbox.waitForChange({ conversation_id: id });
    await sendMessage(restClient, id);
    await restClient.request("DELETE", `/conversations/${id}/members/${ben.user.id}`);
    await restClient.request("PATCH", `/conversations/${id}`, { title: "Without Ben" });
    await sendMessage(restClient, id);
    const removedFrame = await inbox.waitForChange({ conversation_id: id, change: "removed" });
    // last_seq is the sequence number of the removal.
    expect(removedFrame).toMatchObject({ title: "", last_seq: 3, last_read_seq: 3, unread: 0 });
    await sendMessage(restClient, id);
    await sendMessage(restClient, await createTestConversation());
    await Bun.sleep(1_300);
    expect(inbox.list(id).at(-1)?.change).toBe("removed");
    expect(JSON.stringify(inbox.list(id))).not.toContain("Without Ben");
    // After rejoining, the conversation is added to the list again.
    await restClient.request("POST", `/conversations/${id}/members`, { user_id: ben.user.id });
    await inbox.waitFor((frame) => frame.conversation_id === id && frame.title === "Without Ben");
    expect(inbox.list(id).at(-1)).toMatchObject({ change: "added" });
  });

  test("receives a frame for a new role as an update, not as a new conversation", async () => {
    const id = await createTestConversation();
    await inbox.waitForChange({ conversation_id: id, change: "added" });
    await restClient.request("POST", `/conversations/${id}/members`, { user_id: ben.user.id, role: "viewer" });
    await inbox.waitForChange({ conversation_id: id, last_seq: 2, change: "updated" });
    expect(inbox.list(id).map(({ change }) => change)).toEqual(["added", "updated"]);
  });

  test("receives a frame for the deletion of a conversation that hasn't changed since the subscription", async () => {
    const id = await createTestConversation();
    await inbox.waitForChange({ conversation_id: id });
    const newInbox = await openInbox(parley, ben);
    await restClient.request("DELETE", `/conversations/${id}`);
    expect(await newInbox.waitForChange({ conversation_id: id })).toMatchObject({ change: "removed", last_seq: 2 });
    await newInbox.close();
  });

  test("receives few frames during a burst, and the last frame has the final state", async () => {
    const id = await createTestConversation();
    await inbox.waitForChange({ conversation_id: id });
    const sender = await openSocket(parley.url, { token: anna.access_token });
    await Promise.all(
      Array.from({ length: 200 }, (_, n) =>
        sender.request({ type: "message.send", conversation_id: id, client_message_id: `${n}`, content: `${n}` }),
      ),
    );
    expect(await inbox.waitForChange({ conversation_id: id, last_seq: 201 })).toMatchObject({ unread: 200 });
    const frameSeqs = inbox.list(id).map(({ last_seq }) => last_seq);
    // One frame is sent for each second of the burst, which takes longer on a slow machine.
    expect(frameSeqs.length).toBeLessThan(50);
    await sender.close();
  });

  test("works alongside a subscription to the same conversation", async () => {
    const id = await createTestConversation();
    const subscribedInbox = await openInbox(parley, ben);
    await subscribedInbox.request({ type: "subscribe", conversation_id: id });
    const { seq } = await sendMessage(restClient, id);
    await subscribedInbox.waitForChange({ conversation_id: id, last_seq: seq });
    expect((await subscribedInbox.waitFor(({ type }) => type === "message.created")).seq).toBe(seq);
    await subscribedInbox.close();
  });

  test("receives frames on each of its user's sockets until the socket unsubscribes", async () => {
    const [firstInbox, secondInbox] = [await openInbox(parley, ben), await openInbox(parley, ben)];
    const id = await createTestConversation();
    await Promise.all(
      [firstInbox, secondInbox].map((openedInbox) => openedInbox.waitForChange({ conversation_id: id })),
    );
    expect(await firstInbox.request({ type: "inbox.unsubscribe" })).toMatchObject({ type: "ack" });
    await sendMessage(restClient, id);
    await secondInbox.waitForChange({ conversation_id: id, unread: 1 });
    expect(firstInbox.list(id)).toHaveLength(1);
    expect(await firstInbox.request({ type: "inbox.subscribe" })).toMatchObject({ type: "ack" });
    await sendMessage(restClient, id);
    await firstInbox.waitForChange({ conversation_id: id, unread: 2 });
    await Promise.all([firstInbox.close(), secondInbox.close()]);
  });

  test("receives nothing about conversations that its user isn't a member of", async () => {
    const eve = await parley.register();
    const outsiderInbox = await openInbox(parley, eve);
    const id = await createTestConversation();
    await sendMessage(restClient, id);
    await inbox.waitForChange({ conversation_id: id, unread: 1 });
    await restClient.request("DELETE", `/conversations/${id}`);
    await inbox.waitForChange({ conversation_id: id, change: "removed" });
    expect(outsiderInbox.list()).toEqual([]);
    await outsiderInbox.close();
  });

  test("receives the total unread count, up to 1,000, in the ack of its subscription", async () => {
    const clara = await parley.register();
    const ids = [
      await createTestConversation([clara]),
      await createTestConversation([clara]),
      await createTestConversation([clara]),
    ];
    await sendMessage(restClient, ids[0] ?? "");
    const { id } = await sendMessage(restClient, ids[0] ?? "");
    for (let n = 0; n < 3; n += 1) await sendMessage(restClient, ids[1] ?? "");
    await restClient.request("DELETE", `/conversations/${ids[0]}/messages/${id}`);
    const firstInbox = await openInbox(parley, clara);
    expect(firstInbox.unread).toBe(4);
    await parley.database`update conversations set message_count = message_count + 2000 where id = ${ids[2] ?? ""}`;
    const secondInbox = await openInbox(parley, clara);
    expect(secondInbox.unread).toBe(1_000);
    await Promise.all([firstInbox.close(), secondInbox.close()]);
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
    const id = await createTestConversation();
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
