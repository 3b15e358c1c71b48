import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { type MockProvider, startMockProvider } from "../support/mock-provider/server.ts";
import { assembleAnswer } from "./assemble-answer.ts";
import { type Chat, openChat, openSubscribedSocket, waitForAnswer, waitForText } from "./chat.ts";
import { startDatabaseServer } from "./database-server.ts";
import { createInstallation, type Parley, TEST_TIMEOUT_MS } from "./installation.ts";

setDefaultTimeout(TEST_TIMEOUT_MS);

/** Maximum time until another process completes an answer that a killed process left unfinished. */
const TAKEOVER_MAX_MS = 15_000;

const slowAnswer = { pieces: Array.from({ length: 400 }, (_, index) => `first${index} `), pieceDelayMs: 50 };
const continuation = { pieces: ["and ", "here ", "is ", "the ", "rest."], pieceDelayMs: 20 };

let mockProvider: MockProvider;
let env: Record<string, string>;
beforeAll(() => {
  mockProvider = startMockProvider();
  const models = ["early", "late", "moved"].map((name) => `compatible/${name}`).join(",");
  env = { COMPATIBLE_BASE_URL: mockProvider.openaiUrl, AI_MODELS: models };
  for (const name of ["early", "late", "moved"]) mockProvider.script(name, slowAnswer, continuation);
});
afterAll(() => mockProvider?.stop());

/** Reconnects a client to the surviving instance, and waits until the answer is complete. */
async function watchTakeover(chat: Chat, answerId: string, survivor: Parley, killedAtMs: number) {
  const { frames } = chat.socket;
  const before = assembleAnswer(frames, answerId);
  const reader = await openSubscribedSocket(survivor, chat.account, chat.conversationId);
  const { message, resets } = await waitForAnswer(reader, answerId, TAKEOVER_MAX_MS);
  const durationMs = Date.now() - killedAtMs;
  // A client that reconnects must be able to assemble the answer from all of its frames.
  const fullAnswer = assembleAnswer([...frames, ...reader.frames], answerId);
  await reader.close();
  return { before, resets, message, fullAnswer, durationMs };
}

type Takeover = Awaited<ReturnType<typeof watchTakeover>>;

function expectContinued({ before, resets, message, fullAnswer, durationMs }: Takeover): void {
  expect(durationMs).toBeLessThan(TAKEOVER_MAX_MS);
  expect(before.attempts).toEqual([1]);
  expect(resets.at(-1)?.attempt).toBeGreaterThan(1);
  expect(message).toMatchObject({ status: "complete", finish_reason: "stop", error: null });
  expect(message.content).toEndWith("and here is the rest.");
  expect(fullAnswer.final).toEqual(message as never);
}

test.concurrent("answers continue after kill -9 and a restart", async () => {
  const installation = await createInstallation({ env });
  try {
    const first = await installation.start();
    const lateChat = await openChat(first);
    const lateId = await lateChat.requestAnswer("compatible/late");
    await waitForText(lateChat.socket, lateId, 200);
    const earlyChat = await openChat(first);
    const earlyId = await earlyChat.requestAnswer("compatible/early");
    await waitForText(earlyChat.socket, earlyId, 1);
    await first.kill();
    const killedAtMs = Date.now();
    await Promise.all([lateChat.socket.closed, earlyChat.socket.closed]);
    const second = await installation.start();
    expect((await lateChat.fetchMessage(second, lateId)).status).toBe("streaming");

    const [lateTakeover, earlyTakeover] = await Promise.all([
      watchTakeover(lateChat, lateId, second, killedAtMs),
      watchTakeover(earlyChat, earlyId, second, killedAtMs),
    ]);
    for (const takeover of [lateTakeover, earlyTakeover]) expectContinued(takeover);
    // Checkpoints are half a second apart, so little of the long answer was lost.
    const keptLength = lateTakeover.message.content.indexOf("and here is");
    expect(keptLength).toBeGreaterThan(80);
    expect(lateTakeover.before.text).toStartWith(lateTakeover.message.content.slice(0, keptLength).trimEnd());
    expect(await lateChat.fetchMessage(second, lateId)).toEqual(lateTakeover.message);
    const continuationRequest = JSON.stringify(mockProvider.listRequests("late").at(-1)?.body);
    expect(continuationRequest).toContain(lateTakeover.message.content.slice(0, keptLength).trimEnd());
  } finally {
    await installation.remove();
  }
});

test.concurrent("if one of two instances is killed, the other completes its answer", async () => {
  const server = await startDatabaseServer();
  const installation = await createInstallation({ env: { ...env, DATABASE_URL: await server.createDatabase() } });
  try {
    const owner = await installation.start();
    const survivor = await installation.start();
    const chat = await openChat(owner);
    const id = await chat.requestAnswer("compatible/moved");
    await waitForText(chat.socket, id, 200);
    const watcher = await openSubscribedSocket(survivor, chat.account, chat.conversationId);
    await owner.kill();
    const takeover = await watchTakeover(chat, id, survivor, Date.now());
    expectContinued(takeover);
    // A client that was connected to the other instance receives the rest of the answer, too.
    expect((await waitForAnswer(watcher, id)).message).toEqual(takeover.message);
    expect(mockProvider.listRequests("moved")).toHaveLength(2);
  } finally {
    await installation.remove();
    await server.stop();
  }
});
