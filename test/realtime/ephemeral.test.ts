import { afterAll, afterEach, beforeAll, describe, expect, jest, test } from "bun:test";
import { createMemoryBus } from "../../src/realtime/bus-memory.ts";
import { createTypingTracker, TYPING_EXPIRES_MS, TYPING_THROTTLE_MS } from "../../src/realtime/typing.ts";
import { type Account, startApp, type TestApp } from "../support/app.ts";
import { createConversation } from "../support/conversation.ts";
import { silentLog } from "../support/log.ts";
import { openSocket, type TestSocket } from "../support/socket.ts";
import { advanceClock, resetClock } from "../support/test-clock.ts";

let parley: TestApp;
let anna: Account;
let ben: Account;
let annaSocket: TestSocket;
let benSocket: TestSocket;
let conversation_id: string;

beforeAll(async () => {
  parley = await startApp();
  [anna, ben] = await Promise.all([parley.register(), parley.register()]);
  conversation_id = (await createConversation(parley, anna, [ben])).id;
  annaSocket = await openSocket(parley.url, { token: anna.access_token });
  benSocket = await openSocket(parley.url, { token: ben.access_token });
  await benSocket.request({ type: "subscribe", conversation_id });
});
afterEach(resetClock);
afterAll(() => parley.stop());

describe("presence", () => {
  test("starts with a user's first socket, ends with the user's last socket, and is listed for new subscribers", async () => {
    const ack = await annaSocket.request({ type: "subscribe", conversation_id });
    expect((ack.members_online as string[]).sort()).toEqual([anna.user.id, ben.user.id].sort());
    const onlineFrame = { type: "presence", conversation_id, user_id: anna.user.id, online: true };
    expect(await benSocket.waitFor((frame) => frame.type === "presence")).toEqual(onlineFrame);

    const secondSocket = await openSocket(parley.url, { token: anna.access_token });
    await secondSocket.request({ type: "subscribe", conversation_id });
    await secondSocket.close();
    expect(benSocket.list("presence")).toEqual([onlineFrame]);

    await annaSocket.request({ type: "unsubscribe", conversation_id });
    expect(await benSocket.waitFor((frame) => frame.type === "presence" && frame.online === false)).toMatchObject({
      user_id: anna.user.id,
    });
    await annaSocket.request({ type: "subscribe", conversation_id });
    expect(annaSocket.list("presence")).toEqual([]);
  });
});

describe("typing", () => {
  test("is sent to other users at most once every two seconds, and ends with a stop frame", async () => {
    for (let n = 0; n < 20; n += 1) annaSocket.send({ type: "typing.start", conversation_id });
    const push = await benSocket.waitFor((frame) => frame.type === "typing");
    expect(push).toEqual({
      type: "typing",
      conversation_id,
      user_id: anna.user.id,
      active: true,
      expires_in_ms: TYPING_EXPIRES_MS,
    });
    annaSocket.send({ type: "typing.stop", conversation_id });
    await benSocket.waitFor((frame) => frame.type === "typing" && frame.active === false);
    annaSocket.send({ type: "typing.start", conversation_id });
    annaSocket.send({ type: "ping", id: "after" });
    await annaSocket.waitFor((frame) => frame.type === "pong" && frame.id === "after");
    expect(benSocket.list("typing").map(({ active }) => active)).toEqual([true, false]);
    expect(annaSocket.list("typing")).toEqual([]);
  });

  test("ends when a message is sent", async () => {
    advanceClock(TYPING_THROTTLE_MS);
    const typingCountBefore = benSocket.list("typing").length;
    annaSocket.send({ type: "typing.start", conversation_id });
    await benSocket.waitFor(
      (frame) => benSocket.frames.indexOf(frame) >= 0 && benSocket.list("typing").length > typingCountBefore,
    );
    await annaSocket.request({ type: "message.send", conversation_id, content: "done", client_message_id: "typed" });
    await benSocket.waitFor((frame) => frame.type === "message.created");
    expect(benSocket.list("typing").at(-1)).toMatchObject({ active: false });
  });

  test("expires", () => {
    jest.useFakeTimers();
    try {
      const received: unknown[] = [];
      const bus = createMemoryBus({ log: silentLog });
      bus.subscribe(conversation_id, { onMessage: (message) => received.push(message), onGap: () => {} });
      createTypingTracker({ bus, instanceId: "one" }).start(conversation_id, anna.user.id, {});
      jest.advanceTimersByTime(TYPING_EXPIRES_MS - 1);
      expect(received).toMatchObject([{ active: true }]);
      jest.advanceTimersByTime(1);
      expect(received).toMatchObject([{ active: true }, { type: "typing", user_id: anna.user.id, active: false }]);
    } finally {
      jest.useRealTimers();
    }
  });
});

describe("read positions", () => {
  test("only increase, are sent to all members, and determine the unread count", async () => {
    for (const n of [1, 2, 3])
      await annaSocket.request({
        type: "message.send",
        conversation_id,
        content: `${n}`,
        client_message_id: `unread ${n}`,
      });
    const getConversation = async () => {
      const response = await parley.fetch(`/api/v1/conversations/${conversation_id}`, { token: ben.access_token });
      return (await response.json()) as { last_seq: number; last_read_seq: number; unread: number };
    };
    const conversationBefore = await getConversation();
    expect(conversationBefore).toMatchObject({ last_read_seq: 0, unread: 4 });
    expect(
      await benSocket.request({ type: "read", conversation_id, seq: conversationBefore.last_seq - 1 }),
    ).toMatchObject({
      type: "ack",
      last_read_seq: conversationBefore.last_seq - 1,
    });
    expect(await annaSocket.waitFor((frame) => frame.type === "read")).toEqual({
      type: "read",
      conversation_id,
      user_id: ben.user.id,
      seq: conversationBefore.last_seq - 1,
    });
    expect(await benSocket.request({ type: "read", conversation_id, seq: 1 })).toMatchObject({
      last_read_seq: conversationBefore.last_seq - 1,
    });
    expect(await getConversation()).toMatchObject({ last_read_seq: conversationBefore.last_seq - 1, unread: 1 });
    expect(await benSocket.request({ type: "read", conversation_id, seq: 10_000 })).toMatchObject({
      type: "error",
      code: "invalid",
    });
    expect(await getConversation()).toMatchObject({ unread: 1 });
  });
});
