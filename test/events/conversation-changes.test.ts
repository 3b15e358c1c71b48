import { afterAll, beforeAll, expect, test } from "bun:test";
import { createId } from "../../src/lib/id.ts";
import type { SentMessage } from "../../src/modules/messages/model.ts";
import type { ConversationsMessage } from "../../src/realtime/bus.ts";
import { createMemoryBus } from "../../src/realtime/bus-memory.ts";
import { type Account, startApp, type TestApp } from "../support/app.ts";
import { createConversation } from "../support/conversation.ts";
import { silentLog } from "../support/log.ts";
import { createRestClient, type RestClient } from "../support/rest.ts";

const bus = createMemoryBus({ log: silentLog });
let parley: TestApp;
let anna: Account;
let ben: Account;
let restClient: RestClient;

beforeAll(async () => {
  parley = await startApp({ bus });
  anna = await parley.register(undefined, "Anna");
  ben = await parley.register(undefined, "Ben");
  restClient = createRestClient(parley, anna);
});
afterAll(() => parley.stop());

test("every conversation change is published to all instances, without message contents", async () => {
  const receivedMessages: ConversationsMessage[] = [];
  const unsubscribe = bus.subscribe("conversations", {
    onMessage: (message) => receivedMessages.push(message),
    onGap() {},
  });
  const { id } = await createConversation(parley, anna, [ben]);
  const { body } = await restClient.request<SentMessage>("POST", `/conversations/${id}/messages`, {
    content: "Secret.",
    reply: false,
  });
  await restClient.request("POST", `/conversations/${id}/members`, { user_id: ben.user.id, role: "viewer" });
  await restClient.request("PATCH", `/conversations/${id}`, { title: "Plans" });
  await restClient.request("DELETE", `/conversations/${id}/members/${ben.user.id}`);
  await restClient.request("DELETE", `/conversations/${id}`);
  unsubscribe();
  const changes = receivedMessages.filter(({ conversation_id }) => conversation_id === id);
  const changeFields = { type: "conversation.changed", conversation_id: id, at: "" };
  const [benFields, annaFields] = [{ user_id: ben.user.id }, { user_id: anna.user.id }];
  expect(changes.map((message) => ("at" in message ? { ...message, at: "" } : message) as unknown)).toEqual([
    { type: "conversation.listed", conversation_id: id, user_ids: [anna.user.id] },
    { ...changeFields, event: "member.added", seq: 1, ...benFields, joined: true },
    { ...changeFields, event: "message.created", seq: body.message.seq, ...annaFields },
    { ...changeFields, event: "member.added", seq: 3, ...benFields },
    { ...changeFields, event: "conversation.updated", seq: 4, title: "Plans" },
    { ...changeFields, event: "member.removed", seq: 5, ...benFields },
    { ...changeFields, event: "conversation.deleted", seq: 6 },
    { type: "conversation.unlisted", conversation_id: id, seq: 6, at: "", user_ids: [anna.user.id] },
  ]);
  expect(JSON.stringify(receivedMessages)).not.toContain("Secret.");
});

test("the member list of a deleted conversation is published in several messages of limited size", async () => {
  const { id } = await createConversation(parley, anna);
  const users = Array.from({ length: 250 }, createId);
  await parley.database`insert into users (id, email, email_key, display_name) select id, id, id, 'Somebody'
    from unnest(${users}::text[]::uuid[]) id`;
  await parley.database`insert into members (conversation_id, user_id, role)
    select ${id}, u, 'member' from unnest(${users}::uuid[]) u`;
  const receivedMessages: ConversationsMessage[] = [];
  const unsubscribe = bus.subscribe("conversations", {
    onMessage: (message) => receivedMessages.push(message),
    onGap() {},
  });
  await restClient.request("DELETE", `/conversations/${id}`);
  unsubscribe();
  const userIdLists = receivedMessages.flatMap((message) =>
    message.type === "conversation.unlisted" ? [message.user_ids] : [],
  );
  expect(userIdLists.map(({ length }) => length)).toEqual([100, 100, 51]);
  expect(userIdLists.flat().sort()).toEqual([anna.user.id, ...users].sort());
});
