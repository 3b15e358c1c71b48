import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { createId } from "../../src/lib/id.ts";
import { type Account, startApp, type TestApp } from "../support/app.ts";
import { createConversation } from "../support/conversation.ts";
import { openSocket } from "../support/socket.ts";

let parley: TestApp;
let anna: Account;
let ben: Account;
let outsider: Account;

beforeAll(async () => {
  parley = await startApp();
  [anna, ben, outsider] = await Promise.all([
    parley.register(undefined, "Anna"),
    parley.register(undefined, "Ben"),
    parley.register(undefined, "Olga"),
  ]);
});
afterAll(() => parley.stop());

const createSendFrame = (conversation_id: string, content: string, client_message_id = createId()) => ({
  type: "message.send",
  conversation_id,
  content,
  client_message_id,
});

describe("over sockets", () => {
  test("a message is acknowledged to its sender and pushed to all subscribers", async () => {
    const conversation = await createConversation(parley, anna, [ben]);
    const annaSocket = await openSocket(parley.url, { token: anna.access_token });
    const benSocket = await openSocket(parley.url, { token: ben.access_token });
    expect((await annaSocket.waitFor((frame) => frame.type === "ready")).user).toMatchObject({ id: anna.user.id });
    const ack = await annaSocket.request({ type: "subscribe", conversation_id: conversation.id });
    expect(ack).toMatchObject({ last_seq: 1, recovered: false, events: [], members_online: [anna.user.id] });
    await benSocket.request({ type: "subscribe", conversation_id: conversation.id });

    const sendAck = await annaSocket.request(createSendFrame(conversation.id, "Hello Ben", "first"));
    expect(sendAck).toMatchObject({ type: "ack", duplicate: false, message: { content: "Hello Ben", seq: 2 } });
    for (const socket of [annaSocket, benSocket]) {
      const push = await socket.waitFor((frame) => frame.type === "message.created");
      expect(push).toMatchObject({
        conversation_id: conversation.id,
        seq: 2,
        data: { content: "Hello Ben", author: { id: anna.user.id, display_name: "Anna" }, client_message_id: "first" },
      });
      expect(push.data).toEqual(sendAck.message as never);
    }
    const storedResponse = await parley.fetch(`/api/v1/conversations/${conversation.id}/messages`, {
      token: ben.access_token,
    });
    expect(((await storedResponse.json()) as { data: unknown[] }).data).toEqual([sendAck.message]);
    await Promise.all([annaSocket.close(), benSocket.close()]);
  });

  test("the same client_message_id always returns the same message, even within one batch and after the message is deleted", async () => {
    const conversation = await createConversation(parley, anna);
    const socket = await openSocket(parley.url, { token: anna.access_token });
    const frames = [1, 2, 3, 4].map((n) => ({
      ...createSendFrame(conversation.id, `try ${n}`, "once"),
      id: `try${n}`,
    }));
    for (const frame of frames) socket.send(frame);
    const acks = await Promise.all(frames.map(({ id }) => socket.waitFor((frame) => frame.id === id)));
    const ids = new Set(acks.map(({ message }) => (message as { id: string }).id));
    expect(ids.size).toBe(1);
    expect(acks.map(({ duplicate }) => duplicate).sort()).toEqual([false, true, true, true]);
    const [id] = ids;
    expect(await socket.request({ type: "message.delete", message_id: id })).toMatchObject({ type: "ack" });
    const resentAck = await socket.request(createSendFrame(conversation.id, "once more", "once"));
    expect(resentAck).toMatchObject({ duplicate: true, message: { id, content: "" } });
    await socket.close();
  });

  test("a hundred frames sent in one tick are all stored in order", async () => {
    const conversation = await createConversation(parley, anna);
    const socket = await openSocket(parley.url, { token: anna.access_token });
    await socket.request({ type: "subscribe", conversation_id: conversation.id });
    for (let n = 1; n <= 100; n += 1) socket.send({ ...createSendFrame(conversation.id, `line ${n}`), id: `f${n}` });
    await socket.waitFor((frame) => frame.id === "f100");
    await socket.waitFor((frame) => frame.type === "message.created" && frame.seq === 100);
    const pushes = socket.list("message.created");
    expect(pushes.map(({ seq }) => seq)).toEqual(Array.from({ length: 100 }, (_, index) => index + 1));
    expect(pushes.map(({ data }) => data?.content)).toEqual(Array.from({ length: 100 }, (_, n) => `line ${n + 1}`));
    await socket.close();
  });

  test("a client that reconnects with after_seq receives the missed events in order, without gaps or repeats", async () => {
    const conversation = await createConversation(parley, anna, [ben]);
    const annaSocket = await openSocket(parley.url, { token: anna.access_token });
    let benSocket = await openSocket(parley.url, { token: ben.access_token });
    const { last_seq } = await benSocket.request({ type: "subscribe", conversation_id: conversation.id });
    const firstAck = await annaSocket.request(createSendFrame(conversation.id, "one"));
    await benSocket.waitFor((frame) => frame.type === "message.created");
    benSocket.socket.terminate();
    await benSocket.closed;
    const messageId = (firstAck.message as { id: string }).id;
    await annaSocket.request({ type: "message.edit", message_id: messageId, content: "ONE" });
    await annaSocket.request(createSendFrame(conversation.id, "two"));

    benSocket = await openSocket(parley.url, { token: ben.access_token });
    const ack = await benSocket.request({
      type: "subscribe",
      conversation_id: conversation.id,
      after_seq: (last_seq as number) + 1,
    });
    expect(ack).toMatchObject({ recovered: true, last_seq: 4 });
    expect(ack.events).toMatchObject([
      { type: "message.updated", seq: 3, data: { id: messageId, content: "ONE" } },
      { type: "message.created", seq: 4, data: { content: "two" } },
    ]);
    await annaSocket.request(createSendFrame(conversation.id, "three"));
    const nextPush = await benSocket.waitFor((frame) => frame.type === "message.created");
    expect(nextPush.seq).toBe(5);
    await Promise.all([annaSocket.close(), benSocket.close()]);
  });

  test("subscribing during concurrent writes neither loses nor repeats events", async () => {
    const conversation = await createConversation(parley, anna, [ben]);
    const annaSocket = await openSocket(parley.url, { token: anna.access_token });
    const messageCount = 1_500;
    const writes = (async () => {
      for (let n = 0; n < messageCount; n += 1) {
        annaSocket.send({ ...createSendFrame(conversation.id, `${n}`), id: `s${n}` });
        if (n % 20 === 19) await annaSocket.waitFor((frame) => frame.id === `s${n}`);
      }
    })();
    const watchers = await Promise.all(
      Array.from({ length: 8 }, async (_, index) => {
        const socket = await openSocket(parley.url, { token: ben.access_token });
        await Bun.sleep(index * 7);
        const ack = await socket.request({ type: "subscribe", conversation_id: conversation.id, after_seq: 0 });
        return { socket, ack };
      }),
    );
    await writes;
    for (const { socket, ack } of watchers) {
      expect(ack.recovered).toBe(true);
      await socket.waitFor((frame) => frame.seq === messageCount + 1);
      const recovered = (ack.events as { seq: number }[]).map(({ seq }) => seq);
      const pushed = socket.frames.filter((frame) => frame.seq !== undefined).map(({ seq }) => seq as number);
      expect([...recovered, ...pushed]).toEqual(Array.from({ length: messageCount + 1 }, (_, n) => n + 1));
      await socket.close();
    }
    await annaSocket.close();
  });

  test("a frame with a conversation id finds a message only in that conversation", async () => {
    const conversation = await createConversation(parley, anna);
    const otherConversation = await createConversation(parley, anna);
    const socket = await openSocket(parley.url, { token: anna.access_token });
    const sendAck = await socket.request(createSendFrame(conversation.id, "one"));
    const message_id = (sendAck.message as { id: string }).id;
    const edit = (conversation_id: string | null, content: string) =>
      socket.request({ type: "message.edit", message_id, conversation_id, content });
    expect(await edit(otherConversation.id, "elsewhere")).toMatchObject({ type: "error", code: "not_found" });
    expect(await edit("not an id", "nowhere")).toMatchObject({ type: "error", code: "invalid" });
    expect(await edit(conversation.id.toUpperCase(), "two")).toMatchObject({
      type: "ack",
      message: { content: "two" },
    });
    expect(await edit(null, "three")).toMatchObject({ type: "ack", message: { content: "three" } });
    for (const type of ["message.delete", "generation.cancel", "generation.regenerate"])
      expect(await socket.request({ type, message_id, conversation_id: otherConversation.id })).toMatchObject({
        code: "not_found",
      });
    const regenerated = await socket.request({
      type: "generation.regenerate",
      message_id,
      conversation_id: conversation.id,
    });
    expect(regenerated).toMatchObject({ type: "ack", message: { parent_id: message_id } });
    const answer_id = (regenerated.message as { id: string }).id;
    const cancelFrame = { type: "generation.cancel", message_id: answer_id, conversation_id: conversation.id };
    expect(await socket.request(cancelFrame)).toMatchObject({ type: "ack", message: { id: answer_id } });
    const deleteFrame = { type: "message.delete", message_id, conversation_id: conversation.id };
    expect(await socket.request(deleteFrame)).toMatchObject({ type: "ack" });
    await socket.close();
  });

  test("an outsider can't subscribe, send, edit, delete, move a read position or type", async () => {
    const conversation = await createConversation(parley, anna);
    const annaSocket = await openSocket(parley.url, { token: anna.access_token });
    await annaSocket.request({ type: "subscribe", conversation_id: conversation.id });
    const sendAck = await annaSocket.request(createSendFrame(conversation.id, "secret"));
    const message_id = (sendAck.message as { id: string }).id;
    const outsiderSocket = await openSocket(parley.url, { token: outsider.access_token });
    const conversation_id = conversation.id;
    const outsidersConversation = await createConversation(parley, outsider);
    const attempts = [
      { type: "subscribe", conversation_id },
      { type: "subscribe", conversation_id, after_seq: 0 },
      createSendFrame(conversation_id, "let me in"),
      { type: "message.edit", message_id, content: "x" },
      { type: "message.delete", message_id },
      { type: "generation.cancel", message_id },
      { type: "generation.regenerate", message_id },
      // Neither the message's conversation id nor the id of the outsider's own conversation gives access.
      ...[conversation_id, outsidersConversation.id].flatMap((conversation_id) => [
        { type: "message.edit", message_id, conversation_id, content: "x" },
        { type: "message.delete", message_id, conversation_id },
        { type: "generation.cancel", message_id, conversation_id },
        { type: "generation.regenerate", message_id, conversation_id },
      ]),
      { type: "read", conversation_id, seq: 1 },
      { type: "typing.start", conversation_id },
      { type: "typing.stop", conversation_id },
    ];
    for (const frame of attempts)
      expect(await outsiderSocket.request(frame)).toMatchObject({ type: "error", code: "not_found" });
    await annaSocket.request(createSendFrame(conversation_id, "still secret"));
    await annaSocket.waitFor((frame) => frame.data?.content === "still secret");
    await Bun.sleep(50);
    expect(outsiderSocket.frames.filter((frame) => frame.type !== "error").map(({ type }) => type)).toEqual(["ready"]);
    await Promise.all([annaSocket.close(), outsiderSocket.close()]);
  });

  test("a removed member is notified, and receives nothing more", async () => {
    const conversation = await createConversation(parley, anna, [ben]);
    const benSocket = await openSocket(parley.url, { token: ben.access_token });
    await benSocket.request({ type: "subscribe", conversation_id: conversation.id });
    const removal = await parley.fetch(`/api/v1/conversations/${conversation.id}/members/${ben.user.id}`, {
      method: "DELETE",
      token: anna.access_token,
    });
    expect(removal.status).toBe(204);
    await benSocket.waitFor((frame) => frame.type === "member.removed");
    await parley.fetch(`/api/v1/conversations/${conversation.id}/messages`, {
      token: anna.access_token,
      json: { content: "not for Ben", reply: false },
    });
    await Bun.sleep(50);
    expect(benSocket.list("message.created")).toEqual([]);
    expect(await benSocket.request({ type: "subscribe", conversation_id: conversation.id })).toMatchObject({
      code: "not_found",
    });
    await benSocket.close();
  });

  test("a viewer can read, but not write", async () => {
    const conversation = await createConversation(parley, anna);
    await parley.fetch(`/api/v1/conversations/${conversation.id}/members`, {
      token: anna.access_token,
      json: { user_id: ben.user.id, role: "viewer" },
    });
    const benSocket = await openSocket(parley.url, { token: ben.access_token });
    expect(await benSocket.request({ type: "subscribe", conversation_id: conversation.id })).toMatchObject({
      type: "ack",
    });
    expect(await benSocket.request(createSendFrame(conversation.id, "hi"))).toMatchObject({ code: "forbidden" });
    expect(await benSocket.request({ type: "typing.start", conversation_id: conversation.id })).toMatchObject({
      code: "forbidden",
    });
    await benSocket.close();
  });
});
