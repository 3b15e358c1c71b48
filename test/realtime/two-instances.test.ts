import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { type Account, startApp, type TestApp } from "../support/app.ts";
import { createConversation } from "../support/conversation.ts";
import { linkBuses } from "../support/linked-buses.ts";
import { type MockProvider, startMockProvider } from "../support/mock-provider/server.ts";
import { createTestDatabase } from "../support/postgres.ts";
import { type Frame, openSocket, type TestSocket } from "../support/socket.ts";

/** Two instances on one database with a shared bus; Anna is on the first one, Ben on the second. */
const link = linkBuses();
let provider: MockProvider;
let database: Awaited<ReturnType<typeof createTestDatabase>>;
let first: TestApp;
let second: TestApp;
let anna: Account;
let ben: Account;
let a: TestSocket;
let b: TestSocket;
let conversation_id: string;

beforeAll(async () => {
  provider = startMockProvider();
  database = await createTestDatabase();
  const config = { COMPATIBLE_BASE_URL: provider.openaiUrl, AI_MODELS: "compatible/one", AI_MAX_RETRIES: "0" };
  [first, second] = [
    await startApp({ database, config, bus: link.buses[0] }),
    await startApp({ database, config, bus: link.buses[1] }),
  ];
  [anna, ben] = await Promise.all([first.register(), first.register()]);
  conversation_id = (await createConversation(first, anna, [ben])).id;
  a = await openSocket(first.url, { token: anna.access_token });
  b = await openSocket(second.url, { token: ben.access_token });
});
afterAll(async () => {
  await Promise.all([first.stop(), second.stop()]);
  await database.database.end({ timeout: 1 });
  await provider.stop();
});

const isPresence = (user: Account, online: boolean) => (frame: Frame) =>
  frame.type === "presence" && frame.user_id === user.user.id && frame.online === online;
const contentsOf = ({ frames }: TestSocket) =>
  frames.flatMap(({ type, data }) => (type === "message.created" ? [data?.content] : []));
const send = (socket: TestSocket, content: string, more: object = {}) =>
  socket.request({ type: "message.send", conversation_id, content, client_message_id: content, ...more });

describe("across instances", () => {
  test("users see who is online, comes and goes on the other one", async () => {
    await a.request({ type: "subscribe", conversation_id });
    const { members_online } = await b.request({ type: "subscribe", conversation_id });
    // The other instance has been queried, and responds in a moment.
    if (!(members_online as string[]).includes(anna.user.id)) await b.waitFor(isPresence(anna, true));
    await a.waitFor(isPresence(ben, true));
    b.frames.length = 0;

    const late = await openSocket(second.url, { token: anna.access_token });
    const ack = await late.request({ type: "subscribe", conversation_id });
    expect((ack.members_online as string[]).sort()).toEqual([anna.user.id, ben.user.id].sort());
    await late.close();
    await a.request({ type: "unsubscribe", conversation_id });
    await b.waitFor(isPresence(anna, false));
    // Two of her sockets closed and opened on two instances: to others she was online all the time.
    expect(b.list("presence")).toHaveLength(1);
    await a.request({ type: "subscribe", conversation_id });
  });

  test("messages, typing and read positions are pushed", async () => {
    a.send({ type: "typing.start", conversation_id });
    expect(await b.waitFor(({ type }) => type === "typing")).toMatchObject({ user_id: anna.user.id, active: true });
    const { message } = (await send(a, "hello")) as unknown as { message: { seq: number } };
    expect(await b.waitFor(({ type }) => type === "message.created")).toMatchObject({
      seq: message.seq,
      data: { content: "hello", author: { id: anna.user.id } },
    });
    expect(await b.waitFor(({ type, active }) => type === "typing" && active === false)).toBeDefined();
    expect(await b.request({ type: "read", conversation_id, seq: message.seq })).toMatchObject({ type: "ack" });
    expect(await a.waitFor(({ type }) => type === "read")).toMatchObject({ user_id: ben.user.id, seq: message.seq });
  });

  test("lost events are read from the database, in order, once", async () => {
    link.cut();
    const texts = ["lost 1", "lost 2", "lost 3"];
    for (const text of texts) await send(a, text);
    await send(b, "own");
    link.restore();
    await b.waitFor(({ data }) => data?.content === "own");
    await a.waitFor(({ data }) => data?.content === "own");
    expect(contentsOf(b).slice(-4)).toEqual([...texts, "own"]);
    expect(contentsOf(a)).toEqual(contentsOf(b));
  });

  test("a gap with nothing after it is filled, and users who left meanwhile are offline", async () => {
    link.cut();
    await send(a, "the last one");
    await a.request({ type: "unsubscribe", conversation_id });
    b.frames.length = 0;
    link.restore();
    await b.waitFor(({ data }) => data?.content === "the last one");
    // Without listeners, an instance does not respond.
    await b.waitFor(isPresence(anna, false));
    await a.request({ type: "subscribe", conversation_id });
    await b.waitFor(isPresence(anna, true));
  });

  test("an answer is stopped on the instance that writes it", async () => {
    provider.script("one", { pieces: Array.from({ length: 400 }, (_, n) => `${n} `), pieceDelayMs: 20 });
    await send(a, "Count.", { reply: true });
    const delta = await b.waitFor(({ type }) => type === "message.delta");
    const { message_id } = delta;
    await b.request({ type: "generation.cancel", message_id, conversation_id });
    expect(link.carried).toContainEqual({ type: "generation.cancelled", message_id } as never);
    expect(await b.waitFor(({ type }) => type === "message.completed")).toMatchObject({
      data: { id: message_id, status: "cancelled" },
    });
  });

  test("a removed member receives nothing more, and the sockets of an ended session close", async () => {
    await first.fetch(`/api/v1/conversations/${conversation_id}/members/${ben.user.id}`, {
      token: anna.access_token,
      method: "DELETE",
    });
    await b.waitFor(({ type }) => type === "member.removed");
    const carried = link.carried.length;
    await send(a, "among us");
    while (link.carried.length === carried) await Bun.sleep(5);
    // It was in flight to the other instance, whose listeners would have it by now.
    await Bun.sleep(50);
    expect(contentsOf(b)).not.toContain("among us");

    const path = "/api/v1/auth/logout";
    const answer = await first.fetch(path, { token: ben.access_token, json: { refresh_token: ben.refresh_token } });
    expect(answer.status).toBe(204);
    expect((await b.closed).code).toBe(4506);
    expect(link.carried.some((message) => (message.type as string) === "credentials.ended")).toBe(true);
  });
});
