import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import type { Account } from "../support/client.ts";
import { createConversation, type TestConversation } from "../support/conversation.ts";
import { type Frame, openSocket, type TestSocket } from "../support/socket.ts";
import { assembleAnswer, listSeqs, range } from "./assemble-answer.ts";
import { type Backend, backends } from "./backends.ts";
import { createInstallation, type Installation, type Parley, TEST_TIMEOUT_MS } from "./installation.ts";

setDefaultTimeout(TEST_TIMEOUT_MS);

type Message = { id: string; seq: number; content: string };

// The tests of each backend must run in this order, because each test uses the state from the earlier tests.
describe.each(backends)("two users in one conversation ($name)", ({ openBackend }) => {
  let backend: Backend;
  let installation: Installation;
  let parley: Parley;
  let anna: Account;
  let ben: Account;
  let conversation: TestConversation;
  let annaSocket: TestSocket;
  let benSocket: TestSocket;

  beforeAll(async () => {
    backend = await openBackend();
    installation = await createInstallation({ env: backend.env });
    parley = await installation.start();
    anna = await parley.register("anna@example.com", "Anna");
    ben = await parley.register("ben@example.com", "Ben");
    conversation = await createConversation(parley, anna, [ben]);
  });
  afterAll(async () => {
    await installation?.remove();
    await backend?.close();
  });

  const sendMessage = (socket: TestSocket, content: string, options: Record<string, unknown> = {}) => {
    const frame = { conversation_id: conversation.id, client_message_id: crypto.randomUUID(), content, ...options };
    return socket.request({ type: "message.send", ...frame });
  };
  const subscribe = (socket: TestSocket, after_seq?: number) =>
    socket.request({
      type: "subscribe",
      conversation_id: conversation.id,
      ...(after_seq !== undefined && { after_seq }),
    });

  test("both users connect and see each other online", async () => {
    annaSocket = await openSocket(parley.url, { token: anna.access_token });
    expect(await annaSocket.waitFor(({ type }) => type === "ready")).toMatchObject({ user: { id: anna.user.id } });
    expect(await subscribe(annaSocket)).toMatchObject({ type: "ack", last_seq: 1, members_online: [anna.user.id] });
    benSocket = await openSocket(parley.url, { token: ben.access_token });
    const { members_online } = await subscribe(benSocket);
    expect(new Set(members_online as string[])).toEqual(new Set([anna.user.id, ben.user.id]));
    expect(await annaSocket.waitFor(({ type }) => type === "presence")).toMatchObject({
      user_id: ben.user.id,
      online: true,
    });
  });

  test("a message is acknowledged to its sender and pushed to both users", async () => {
    const ack = await sendMessage(annaSocket, "Hello Ben 👋", { client_message_id: "hello" });
    expect(ack).toMatchObject({ type: "ack", duplicate: false, message: { content: "Hello Ben 👋", seq: 2 } });
    for (const socket of [annaSocket, benSocket]) {
      const push = await socket.waitFor(({ type }) => type === "message.created");
      expect(push).toMatchObject({ conversation_id: conversation.id, seq: 2 });
      expect(push.data).toEqual(ack.message as never);
    }
    const repeatedAck = await sendMessage(annaSocket, "Hello Ben 👋", { client_message_id: "hello" });
    expect(repeatedAck).toMatchObject({ duplicate: true, message: { id: (ack.message as Message).id } });
  });

  test("only the other user receives typing events", async () => {
    annaSocket.send({ type: "typing.start", id: "t1", conversation_id: conversation.id });
    const typing = await benSocket.waitFor(({ type }) => type === "typing");
    expect(typing).toMatchObject({ conversation_id: conversation.id, user_id: anna.user.id, active: true });
    annaSocket.send({ type: "typing.stop", id: "t2", conversation_id: conversation.id });
    await benSocket.waitFor(({ type, active }) => type === "typing" && active === false);
    expect(annaSocket.list("typing")).toEqual([]);
  });

  test("a user who reconnects receives each missed event once", async () => {
    const lastSeq = Math.max(...listSeqs(benSocket.frames));
    benSocket.socket.terminate();
    await benSocket.closed;
    await annaSocket.waitFor(({ type, online }) => type === "presence" && online === false);
    for (const text of ["while", "you", "were", "away"]) await sendMessage(annaSocket, text);
    const editAck = await annaSocket.request({
      type: "message.edit",
      message_id: (await annaSocket.waitFor(({ data }) => data?.content === "were")).data?.id,
      content: "WERE",
    });
    expect(editAck.type).toBe("ack");

    benSocket = await openSocket(parley.url, { token: ben.access_token });
    const sendLoop = (async () => {
      for (const text of ["and", "now"]) await sendMessage(annaSocket, text);
    })();
    expect(await subscribe(benSocket, lastSeq)).toMatchObject({ type: "ack", recovered: true });
    await sendLoop;
    const lastAck = await sendMessage(annaSocket, "the end");
    const { seq } = lastAck.message as Message;
    await benSocket.waitFor((frame) => frame.seq === seq);
    expect(listSeqs(benSocket.frames)).toEqual(range(lastSeq + 1, seq));
    expect(listSeqs(annaSocket.frames)).toEqual(range(2, seq));
  });

  test("the offline model's answer is streamed to both users", async () => {
    const ack = await sendMessage(annaSocket, "How do I configure the database?", { reply: true });
    const question = ack.message as Message;
    const isAnswer = (frame: Frame) => frame.type === "message.completed" && frame.data?.parent_id === question.id;
    const { data } = await benSocket.waitFor(isAnswer);
    await annaSocket.waitFor(isAnswer);
    expect(data).toMatchObject({ role: "assistant", status: "complete", model: "offline/documents", author: null });
    expect(data?.content).toContain("I am offline");
    for (const socket of [annaSocket, benSocket]) {
      const { deltaCount, attempts, finalMessage } = assembleAnswer(socket.frames, data?.id ?? "");
      expect({ isStreamed: deltaCount > 0, attempts, finalMessage }).toEqual({
        isStreamed: true,
        attempts: [1],
        finalMessage: data ?? null,
      });
    }
  });

  test("after a restart, tokens are still valid and the history is complete", async () => {
    const pushedIds = benSocket.frames.flatMap(({ type, data }) => (type === "message.created" ? [data?.id] : []));
    const fetchMessages = async () => {
      const path = `/api/v1/conversations/${conversation.id}/messages?limit=200`;
      const response = await parley.fetch(path, { token: ben.access_token });
      expect(response.status).toBe(200);
      return ((await response.json()) as { data: Message[] }).data;
    };
    const messagesBefore = await fetchMessages();
    expect(messagesBefore.length).toBeGreaterThan(8);
    expect(messagesBefore.map(({ id }) => id)).toEqual(expect.arrayContaining(pushedIds as string[]));
    expect((await parley.stop()).code).toBe(0);
    expect(await annaSocket.closed).toMatchObject({ code: 4001 });

    parley = await installation.start();
    expect(await fetchMessages()).toEqual(messagesBefore);
    benSocket = await openSocket(parley.url, { token: ben.access_token });
    const { last_seq, recovered } = await subscribe(benSocket, 1);
    expect(recovered).toBe(true);
    expect(listSeqs(benSocket.frames)).toEqual(range(2, last_seq as number));
    expect(await sendMessage(benSocket, "Welcome back")).toMatchObject({ message: { seq: (last_seq as number) + 1 } });
    await benSocket.close();
  });
});
