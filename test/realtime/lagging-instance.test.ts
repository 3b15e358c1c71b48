import { afterAll, beforeAll, expect, test } from "bun:test";
import { assembleAnswer, listSeqs, range } from "../acceptance/assemble-answer.ts";
import { openSubscribedSocket } from "../acceptance/chat.ts";
import { startApp, type TestApp } from "../support/app.ts";
import { createConversation } from "../support/conversation.ts";
import { createLinkedBuses } from "../support/linked-buses.ts";
import { type MockProvider, startMockProvider } from "../support/mock-provider/server.ts";
import { createTestDatabase } from "../support/postgres.ts";
import { openSocket } from "../support/socket.ts";
import { waitUntil } from "../support/wait-until.ts";

const PIECES = Array.from({ length: 40 }, (_, n) => `${n} `);

let provider: MockProvider;
let database: Awaited<ReturnType<typeof createTestDatabase>>;
let writer: TestApp;
let reader: TestApp;
const link = createLinkedBuses();
beforeAll(async () => {
  provider = startMockProvider();
  provider.script("one", { pieces: PIECES, pieceDelayMs: 10 });
  database = await createTestDatabase(20);
  const config = { COMPATIBLE_BASE_URL: provider.openaiUrl, AI_MODELS: "compatible/one" };
  writer = await startApp({ database, config, bus: link.buses[0] });
  reader = await startApp({ database, config, bus: link.buses[1] });
});
afterAll(async () => {
  await Promise.all([writer.stop(), reader.stop()]);
  await database.database.end({ timeout: 1 });
  await provider.stop();
});

test("an instance that missed the end of an answer reports the answer as in progress and completes it later", async () => {
  const account = await writer.register();
  const { id: conversation_id } = await createConversation(writer, account);
  const readerSocket = await openSubscribedSocket(reader, account, conversation_id);
  const writerSocket = await openSubscribedSocket(writer, account, conversation_id);
  await writerSocket.request({
    type: "message.send",
    conversation_id,
    client_message_id: "one",
    content: "Count.",
    reply: true,
  });
  const { message_id } = await readerSocket.waitFor(({ type }) => type === "message.delta");
  const id = String(message_id);
  link.cut();
  await writerSocket.waitFor(({ type, data }) => type === "message.completed" && data?.id === id);

  const lateSocket = await openSocket(reader.url, { token: account.access_token });
  const ack = await lateSocket.request({ type: "subscribe", conversation_id, after_seq: 0 });
  const createdEvent = (ack.events as { data: { id: string; content: string; status: string } }[]).find(
    ({ data }) => data.id === id,
  );
  expect(createdEvent?.data).toMatchObject({ status: "streaming", finish_reason: null, usage: null });
  expect(createdEvent?.data.content.length).toBeLessThan(PIECES.join("").length);
  await waitUntil(() => [readerSocket, lateSocket].every(({ list }) => list("message.completed").length === 1));
  link.restore();
  for (const { frames } of [readerSocket, lateSocket])
    expect(assembleAnswer(frames, id)).toMatchObject({ text: PIECES.join("") });
  await Promise.all([readerSocket, writerSocket, lateSocket].map((socket) => socket.close()));
});

test("a client that moves to a lagging instance receives nothing twice", async () => {
  const account = await writer.register();
  const { id: conversation_id } = await createConversation(writer, account);
  const writerSocket = await openSubscribedSocket(writer, account, conversation_id);
  const readerSocket = await openSubscribedSocket(reader, account, conversation_id);
  link.cut();
  for (const content of ["one", "two", "three"])
    await writerSocket.request({
      type: "message.send",
      conversation_id,
      client_message_id: content,
      content,
      reply: false,
    });
  await waitUntil(() => writerSocket.list("message.created").length === 3);
  const after_seq = listSeqs(writerSocket.frames).at(-1) ?? 0;
  const movedSocket = await openSocket(reader.url, { token: account.access_token });
  const ack = await movedSocket.request({ type: "subscribe", conversation_id, after_seq });
  expect(ack).toMatchObject({ last_seq: after_seq, recovered: true, events: [] });
  await movedSocket.request({
    type: "message.send",
    conversation_id,
    client_message_id: "four",
    content: "four",
    reply: false,
  });
  for (const socket of [movedSocket, readerSocket])
    await waitUntil(() =>
      socket.frames.some(({ type, data }) => type === "message.created" && data?.content === "four"),
    );
  expect(listSeqs(movedSocket.frames)).toEqual([after_seq + 1]);
  expect(listSeqs(readerSocket.frames)).toEqual(range(1, after_seq + 1));
  link.restore();
  await Promise.all([writerSocket, readerSocket, movedSocket].map((socket) => socket.close()));
});
