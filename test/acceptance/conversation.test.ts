import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import type { Account } from "../support/client.ts";
import { createConversation, type TestConversation } from "../support/conversation.ts";
import { type Frame, openSocket, type TestSocket } from "../support/socket.ts";
import { type Backend, backends } from "./backends.ts";
import { listSeqs, range, readAnswer } from "./reader.ts";
import { createSite, type Parley, type Site, TEST_TIMEOUT_MS } from "./site.ts";

setDefaultTimeout(TEST_TIMEOUT_MS);

type Message = { id: string; seq: number; content: string };

// The tests of each backend build on each other, in order.
describe.each(backends)("two people in one conversation, on the $name", ({ open }) => {
  let backend: Backend;
  let site: Site;
  let parley: Parley;
  let anna: Account;
  let ben: Account;
  let conversation: TestConversation;
  let a: TestSocket;
  let b: TestSocket;

  beforeAll(async () => {
    backend = await open();
    site = await createSite({ env: backend.env });
    parley = await site.start();
    anna = await parley.register("anna@example.com", "Anna");
    ben = await parley.register("ben@example.com", "Ben");
    conversation = await createConversation(parley, anna, [ben]);
  });
  afterAll(async () => {
    await site?.remove();
    await backend?.close();
  });

  const send = (socket: TestSocket, content: string, more: Record<string, unknown> = {}) => {
    const frame = { conversation_id: conversation.id, client_message_id: crypto.randomUUID(), content, ...more };
    return socket.request({ type: "message.send", ...frame });
  };
  const subscribe = (socket: TestSocket, after_seq?: number) =>
    socket.request({
      type: "subscribe",
      conversation_id: conversation.id,
      ...(after_seq !== undefined && { after_seq }),
    });

  test("both users connect and see each other online", async () => {
    a = await openSocket(parley.url, { token: anna.access_token });
    expect(await a.waitFor(({ type }) => type === "ready")).toMatchObject({ user: { id: anna.user.id } });
    expect(await subscribe(a)).toMatchObject({ type: "ack", last_seq: 1, members_online: [anna.user.id] });
    b = await openSocket(parley.url, { token: ben.access_token });
    const { members_online } = await subscribe(b);
    expect(new Set(members_online as string[])).toEqual(new Set([anna.user.id, ben.user.id]));
    expect(await a.waitFor(({ type }) => type === "presence")).toMatchObject({ user_id: ben.user.id, online: true });
  });

  test("acknowledges a message to its sender and pushes it to both users", async () => {
    const ack = await send(a, "Hello Ben 👋", { client_message_id: "hello" });
    expect(ack).toMatchObject({ type: "ack", duplicate: false, message: { content: "Hello Ben 👋", seq: 2 } });
    for (const socket of [a, b]) {
      const push = await socket.waitFor(({ type }) => type === "message.created");
      expect(push).toMatchObject({ conversation_id: conversation.id, seq: 2 });
      expect(push.data).toEqual(ack.message as never);
    }
    const again = await send(a, "Hello Ben 👋", { client_message_id: "hello" });
    expect(again).toMatchObject({ duplicate: true, message: { id: (ack.message as Message).id } });
  });

  test("sends typing to the other user only", async () => {
    a.send({ type: "typing.start", id: "t1", conversation_id: conversation.id });
    const typing = await b.waitFor(({ type }) => type === "typing");
    expect(typing).toMatchObject({ conversation_id: conversation.id, user_id: anna.user.id, active: true });
    a.send({ type: "typing.stop", id: "t2", conversation_id: conversation.id });
    await b.waitFor(({ type, active }) => type === "typing" && active === false);
    expect(a.list("typing")).toEqual([]);
  });

  test("replays missed messages after a dropped connection, each once", async () => {
    const seen = Math.max(...listSeqs(b.frames));
    b.socket.terminate();
    await b.closed;
    await a.waitFor(({ type, online }) => type === "presence" && online === false);
    for (const text of ["while", "you", "were", "away"]) await send(a, text);
    const edited = await a.request({
      type: "message.edit",
      message_id: (await a.waitFor(({ data }) => data?.content === "were")).data?.id,
      content: "WERE",
    });
    expect(edited.type).toBe("ack");

    b = await openSocket(parley.url, { token: ben.access_token });
    const sending = (async () => {
      for (const text of ["and", "now"]) await send(a, text);
    })();
    expect(await subscribe(b, seen)).toMatchObject({ type: "ack", recovered: true });
    await sending;
    const last = await send(a, "the end");
    const { seq } = last.message as Message;
    await b.waitFor((frame) => frame.seq === seq);
    expect(listSeqs(b.frames)).toEqual(range(seen + 1, seq));
    expect(listSeqs(a.frames)).toEqual(range(2, seq));
  });

  test("streams the offline model's answer to both users", async () => {
    const ack = await send(a, "How do I configure the database?", { reply: true });
    const question = ack.message as Message;
    const isAnswer = (frame: Frame) => frame.type === "message.completed" && frame.data?.parent_id === question.id;
    const { data } = await b.waitFor(isAnswer);
    await a.waitFor(isAnswer);
    expect(data).toMatchObject({ role: "assistant", status: "complete", model: "offline/documents", author: null });
    expect(data?.content).toContain("I am offline");
    for (const socket of [a, b]) {
      const { deltas, attempts, final } = readAnswer(socket.frames, data?.id ?? "");
      expect({ deltas: deltas > 0, attempts, final }).toEqual({ deltas: true, attempts: [1], final: data ?? null });
    }
  });

  test("returns the whole history over REST after a restart, with the old tokens", async () => {
    const pushed = b.frames.flatMap(({ type, data }) => (type === "message.created" ? [data?.id] : []));
    const read = async () => {
      const path = `/api/v1/conversations/${conversation.id}/messages?limit=200`;
      const response = await parley.fetch(path, { token: ben.access_token });
      expect(response.status).toBe(200);
      return ((await response.json()) as { data: Message[] }).data;
    };
    const before = await read();
    expect(before.length).toBeGreaterThan(8);
    expect(before.map(({ id }) => id)).toEqual(expect.arrayContaining(pushed as string[]));
    expect((await parley.stop()).code).toBe(0);
    expect(await a.closed).toMatchObject({ code: 4001 });

    parley = await site.start();
    expect(await read()).toEqual(before);
    b = await openSocket(parley.url, { token: ben.access_token });
    const { last_seq, recovered } = await subscribe(b, 1);
    expect(recovered).toBe(true);
    expect(listSeqs(b.frames)).toEqual(range(2, last_seq as number));
    expect(await send(b, "Welcome back")).toMatchObject({ message: { seq: (last_seq as number) + 1 } });
    await b.close();
  });
});
