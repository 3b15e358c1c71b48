import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { type Account, startApp, type TestApp } from "../support/app.ts";
import { createConversation } from "../support/conversation.ts";
import { createLinkedBuses } from "../support/linked-buses.ts";
import { type MockProvider, startMockProvider } from "../support/mock-provider/server.ts";
import { createTestDatabase } from "../support/postgres.ts";
import { type Frame, openSocket, type TestSocket } from "../support/socket.ts";

/** Links two instances that share a database. Anna is connected to the first instance, and Ben to the second. */
const link = createLinkedBuses();
let provider: MockProvider;
let database: Awaited<ReturnType<typeof createTestDatabase>>;
let firstApp: TestApp;
let secondApp: TestApp;
let anna: Account;
let ben: Account;
let annaSocket: TestSocket;
let benSocket: TestSocket;
let conversation_id: string;

beforeAll(async () => {
  provider = startMockProvider();
  database = await createTestDatabase();
  const config = { COMPATIBLE_BASE_URL: provider.openaiUrl, AI_MODELS: "compatible/one", AI_MAX_RETRIES: "0" };
  [firstApp, secondApp] = [
    await startApp({ database, config, bus: link.buses[0] }),
    await startApp({ database, config, bus: link.buses[1] }),
  ];
  [anna, ben] = await Promise.all([firstApp.register(), firstApp.register()]);
  conversation_id = (await createConversation(firstApp, anna, [ben])).id;
  annaSocket = await openSocket(firstApp.url, { token: anna.access_token });
  benSocket = await openSocket(secondApp.url, { token: ben.access_token });
});
afterAll(async () => {
  await Promise.all([firstApp.stop(), secondApp.stop()]);
  await database.database.end({ timeout: 1 });
  await provider.stop();
});

const isPresence = (user: Account, online: boolean) => (frame: Frame) =>
  frame.type === "presence" && frame.user_id === user.user.id && frame.online === online;
const listContents = ({ frames }: TestSocket) =>
  frames.flatMap(({ type, data }) => (type === "message.created" ? [data?.content] : []));
const sendMessage = (socket: TestSocket, content: string, fields: object = {}) =>
  socket.request({ type: "message.send", conversation_id, content, client_message_id: content, ...fields });

describe("across instances", () => {
  test("members see who is online on the other instance, and who connects or disconnects there", async () => {
    await annaSocket.request({ type: "subscribe", conversation_id });
    const { members_online } = await benSocket.request({ type: "subscribe", conversation_id });
    // The ack may arrive before the other instance has responded.
    if (!(members_online as string[]).includes(anna.user.id)) await benSocket.waitFor(isPresence(anna, true));
    await annaSocket.waitFor(isPresence(ben, true));
    benSocket.frames.length = 0;

    const secondSocket = await openSocket(secondApp.url, { token: anna.access_token });
    const ack = await secondSocket.request({ type: "subscribe", conversation_id });
    expect((ack.members_online as string[]).sort()).toEqual([anna.user.id, ben.user.id].sort());
    await secondSocket.close();
    await annaSocket.request({ type: "unsubscribe", conversation_id });
    await benSocket.waitFor(isPresence(anna, false));
    // Anna was online until her last socket on either instance closed.
    expect(benSocket.list("presence")).toHaveLength(1);
    await annaSocket.request({ type: "subscribe", conversation_id });
  });

  test("messages, typing and read positions are pushed", async () => {
    annaSocket.send({ type: "typing.start", conversation_id });
    expect(await benSocket.waitFor(({ type }) => type === "typing")).toMatchObject({
      user_id: anna.user.id,
      active: true,
    });
    const { message } = (await sendMessage(annaSocket, "hello")) as unknown as { message: { seq: number } };
    expect(await benSocket.waitFor(({ type }) => type === "message.created")).toMatchObject({
      seq: message.seq,
      data: { content: "hello", author: { id: anna.user.id } },
    });
    expect(await benSocket.waitFor(({ type, active }) => type === "typing" && active === false)).toBeDefined();
    expect(await benSocket.request({ type: "read", conversation_id, seq: message.seq })).toMatchObject({ type: "ack" });
    expect(await annaSocket.waitFor(({ type }) => type === "read")).toMatchObject({
      user_id: ben.user.id,
      seq: message.seq,
    });
  });

  test("lost events are loaded from the database, once and in order", async () => {
    link.cut();
    const contents = ["lost 1", "lost 2", "lost 3"];
    for (const text of contents) await sendMessage(annaSocket, text);
    await sendMessage(benSocket, "Ben's");
    link.restore();
    await benSocket.waitFor(({ data }) => data?.content === "Ben's");
    await annaSocket.waitFor(({ data }) => data?.content === "Ben's");
    expect(listContents(benSocket).slice(-4)).toEqual([...contents, "Ben's"]);
    expect(listContents(annaSocket)).toEqual(listContents(benSocket));
  });

  test("a gap is filled even if no event follows it, and users who unsubscribed during it are offline", async () => {
    link.cut();
    await sendMessage(annaSocket, "the last one");
    await annaSocket.request({ type: "unsubscribe", conversation_id });
    benSocket.frames.length = 0;
    link.restore();
    await benSocket.waitFor(({ data }) => data?.content === "the last one");
    // Anna's instance doesn't respond, because it no longer has listeners.
    await benSocket.waitFor(isPresence(anna, false));
    await annaSocket.request({ type: "subscribe", conversation_id });
    await benSocket.waitFor(isPresence(anna, true));
  });

  test("an answer can be stopped from the instance that isn't generating it", async () => {
    provider.script("one", { pieces: Array.from({ length: 400 }, (_, n) => `${n} `), pieceDelayMs: 20 });
    await sendMessage(annaSocket, "Count.", { reply: true });
    const delta = await benSocket.waitFor(({ type }) => type === "message.delta");
    const { message_id } = delta;
    await benSocket.request({ type: "generation.cancel", message_id, conversation_id });
    expect(link.sentMessages).toContainEqual({ type: "generation.cancelled", message_id } as never);
    expect(await benSocket.waitFor(({ type }) => type === "message.completed")).toMatchObject({
      data: { id: message_id, status: "cancelled" },
    });
  });

  test("a removed member receives nothing more, and a revoked session's sockets close", async () => {
    await firstApp.fetch(`/api/v1/conversations/${conversation_id}/members/${ben.user.id}`, {
      token: anna.access_token,
      method: "DELETE",
    });
    await benSocket.waitFor(({ type }) => type === "member.removed");
    const sentCountBefore = link.sentMessages.length;
    await sendMessage(annaSocket, "not for Ben");
    while (link.sentMessages.length === sentCountBefore) await Bun.sleep(5);
    // By the end of this pause, the other instance's listeners would have received the message.
    await Bun.sleep(50);
    expect(listContents(benSocket)).not.toContain("not for Ben");

    const path = "/api/v1/auth/logout";
    const response = await firstApp.fetch(path, {
      token: ben.access_token,
      json: { refresh_token: ben.refresh_token },
    });
    expect(response.status).toBe(204);
    expect((await benSocket.closed).code).toBe(4506);
    expect(link.sentMessages.some((message) => (message.type as string) === "credentials.ended")).toBe(true);
  });
});
