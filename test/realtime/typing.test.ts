import { afterAll, afterEach, beforeAll, beforeEach, expect, jest, test } from "bun:test";
import { createId } from "../../src/lib/id.ts";
import type { ConversationMessage } from "../../src/realtime/bus.ts";
import { createMemoryBus } from "../../src/realtime/bus-memory.ts";
import { createTypingTracker, TYPING_EXPIRES_MS, TYPING_THROTTLE_MS } from "../../src/realtime/typing.ts";
import { TypingExpiry } from "../../src/realtime/typing-expiry.ts";
import { type Account, startApp, type TestApp } from "../support/app.ts";
import { createConversation } from "../support/conversation.ts";
import { createLinkedBuses } from "../support/linked-buses.ts";
import { silentLog } from "../support/log.ts";
import { createTestDatabase } from "../support/postgres.ts";
import { createRestClient } from "../support/rest.ts";
import { openSocket, type TestSocket } from "../support/socket.ts";
import { resetClock } from "../support/test-clock.ts";

/** Links two instances. Anna watches on both, and Ben types in one or more tabs. */
const link = createLinkedBuses();
let database: Awaited<ReturnType<typeof createTestDatabase>>;
let instances: [TestApp, TestApp];
let anna: Account;
let ben: Account;
let watchers: TestSocket[];
let conversation_id: string;

beforeAll(async () => {
  database = await createTestDatabase();
  instances = [await startApp({ database, bus: link.buses[0] }), await startApp({ database, bus: link.buses[1] })];
  anna = await instances[0].register();
});
afterAll(async () => {
  await Promise.all(instances.map((instance) => instance.stop()));
  await database.database.end({ timeout: 1 });
});
beforeEach(async () => {
  ben = await instances[0].register();
  conversation_id = (await createConversation(instances[0], anna, [ben])).id;
  watchers = await Promise.all(instances.map(({ url }) => openSocket(url, { token: anna.access_token })));
  for (const watcher of watchers) await watcher.request({ type: "subscribe", conversation_id });
});
afterEach(async () => {
  resetClock();
  await Promise.all(watchers.map((watcher) => watcher.close()));
});

async function openTab(instance: TestApp, isSubscribed = true): Promise<TestSocket> {
  const tab = await openSocket(instance.url, { token: ben.access_token });
  if (isSubscribed) await tab.request({ type: "subscribe", conversation_id });
  return tab;
}

/** Lists the watchers' typing frames about Ben, after all earlier frames from `tabs` have been processed. */
async function listTypingStates(...tabs: TestSocket[]): Promise<boolean[][]> {
  for (const tab of tabs) {
    const id = createId();
    tab.send({ type: "ping", id });
    await tab.waitFor((frame) => frame.type === "pong" && frame.id === id);
  }
  await Bun.sleep(20);
  return watchers.map((watcher) =>
    watcher
      .list("typing")
      .filter(({ user_id }) => user_id === ben.user.id)
      .map(({ active }) => active as boolean),
  );
}

test("one tab's unsubscribe, stop or close doesn't end another tab's typing", async () => {
  const [typingTab, otherTab] = [await openTab(instances[0]), await openTab(instances[0])];
  typingTab.send({ type: "typing.start", conversation_id });
  await watchers[1]?.waitFor(({ type }) => type === "typing");
  otherTab.send({ type: "typing.stop", conversation_id });
  await otherTab.request({
    type: "message.send",
    conversation_id,
    content: "from the other tab",
    client_message_id: createId(),
  });
  await otherTab.request({ type: "unsubscribe", conversation_id });
  await otherTab.close();
  expect(await listTypingStates(typingTab)).toEqual([[true], [true]]);
  await typingTab.request({ type: "unsubscribe", conversation_id });
  expect(await listTypingStates(typingTab)).toEqual([
    [true, false],
    [true, false],
  ]);
  await typingTab.close();
});

test("closing the typing tab ends typing, even while another tab is subscribed", async () => {
  const [typingTab, otherTab] = [await openTab(instances[0]), await openTab(instances[0])];
  typingTab.send({ type: "typing.start", conversation_id });
  await watchers[1]?.waitFor(({ type }) => type === "typing");
  await typingTab.close();
  for (const watcher of watchers) await watcher.waitFor(({ type, active }) => type === "typing" && active === false);
  await otherTab.close();
});

test("a user who types on two instances is shown as typing until both have stopped", async () => {
  const tabs = [await openTab(instances[0]), await openTab(instances[1])];
  for (const tab of tabs) tab.send({ type: "typing.start", conversation_id });
  expect((await listTypingStates(...tabs)).map((received) => received.includes(false))).toEqual([false, false]);
  tabs[0]?.send({ type: "typing.stop", conversation_id });
  expect((await listTypingStates(...tabs)).map((received) => received.includes(false))).toEqual([false, false]);
  await tabs[1]?.close();
  expect((await listTypingStates()).map((received) => received.at(-1))).toEqual([false, false]);
  await tabs[0]?.close();
});

test.each([
  ["a subscribed member", true],
  ["an unsubscribed member", false],
])("removing %s immediately ends typing and presence on every instance", async (_, isSubscribed) => {
  const tab = await openTab(instances[1], isSubscribed);
  tab.send({ type: "typing.start", conversation_id });
  for (const watcher of watchers) await watcher.waitFor(({ type, active }) => type === "typing" && active === true);
  const removal = await createRestClient(instances[0], anna).request(
    "DELETE",
    `/conversations/${conversation_id}/members/${ben.user.id}`,
  );
  expect(removal.status).toBe(204);
  const removedAtMs = performance.now();
  for (const watcher of watchers) {
    await watcher.waitFor(({ type, active }) => type === "typing" && active === false);
    if (isSubscribed) await watcher.waitFor(({ type, online }) => type === "presence" && online === false);
  }
  expect(performance.now() - removedAtMs).toBeLessThan(1_000);
  // The stop is pushed once, and no later frame is about the removed member.
  tab.send({ type: "typing.start", conversation_id });
  await tab.waitFor(({ type, code }) => type === "error" && code === "not_found");
  expect(await listTypingStates(tab)).toEqual([
    [true, false],
    [true, false],
  ]);
  await tab.close();
});

test("a removed member's late typing from another instance is dropped until the member is added again", async () => {
  const typingMessage = {
    type: "typing",
    conversation_id,
    user_id: ben.user.id,
    active: true,
    expires_in_ms: 6_000,
  } as const;
  const publishTyping = () =>
    link.buses[0].publish(conversation_id, (): ConversationMessage[] => [{ ...typingMessage, instance_id: "one" }]);
  const rest = createRestClient(instances[0], anna);
  await rest.request("DELETE", `/conversations/${conversation_id}/members/${ben.user.id}`);
  for (const watcher of watchers) await watcher.waitFor(({ type }) => type === "member.removed");
  publishTyping();
  expect(await listTypingStates()).toEqual([[], []]);
  const addedCountsBefore = watchers.map((watcher) => watcher.list("member.added").length);
  await rest.request("POST", `/conversations/${conversation_id}/members`, { user_id: ben.user.id });
  for (const [index, watcher] of watchers.entries())
    await watcher.waitFor(() => watcher.list("member.added").length > (addedCountsBefore[index] ?? 0));
  publishTyping();
  for (const watcher of watchers) await watcher.waitFor(({ type, active }) => type === "typing" && active === true);
  expect(await listTypingStates()).toEqual([[true], [true]]);
  expect(watchers.flatMap((watcher) => watcher.list("typing")).every((frame) => !("instance_id" in frame))).toBe(true);
});

test("typing on a user's connections is announced at most every two seconds, until the last connection's typing expires", () => {
  jest.useFakeTimers();
  try {
    const received: boolean[] = [];
    const bus = createMemoryBus({ log: silentLog });
    const id = createId();
    bus.subscribe(id, {
      onMessage: (message) => message.type === "typing" && received.push(message.active),
      onGap: () => {},
    });
    const typing = createTypingTracker({ bus, instanceId: "one" });
    const [firstConnection, secondConnection] = [{}, {}];
    typing.start(id, "ben", firstConnection);
    typing.start(id, "ben", secondConnection);
    expect(received).toEqual([true]);
    typing.leave(firstConnection);
    jest.advanceTimersByTime(TYPING_THROTTLE_MS);
    typing.start(id, "ben", secondConnection);
    expect(received).toEqual([true, true]);
    jest.advanceTimersByTime(TYPING_EXPIRES_MS - 1);
    expect(received).toEqual([true, true]);
    jest.advanceTimersByTime(1);
    expect(received).toEqual([true, true, false]);
    typing.leave(secondConnection);
    typing.stop(id, "ben", firstConnection);
    expect(received).toEqual([true, true, false]);
  } finally {
    jest.useRealTimers();
  }
});

test("typing on several instances ends when it stops or expires on the last of them", () => {
  jest.useFakeTimers();
  try {
    const expired: string[] = [];
    const expiry = new TypingExpiry();
    const startTyping = (instance: string) => expiry.start("ben", instance, 1_000, () => expired.push(instance));
    startTyping("one");
    startTyping("two");
    expect(expiry.stop("ben", "one")).toBe(true);
    jest.advanceTimersByTime(10_000);
    expect(expired).toEqual(["two"]);
    expect([expiry.stop("ben", "two"), expiry.stopEverywhere("ben")]).toEqual([false, false]);
    startTyping("one");
    expect(expiry.stopEverywhere("ben")).toBe(true);
    jest.advanceTimersByTime(10_000);
    expect(expired).toEqual(["two"]);
  } finally {
    jest.useRealTimers();
  }
});
