import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { type MockProvider, startMockProvider } from "../support/mock-provider/server.ts";
import { assembleAnswer } from "./assemble-answer.ts";
import { type Chat, openChat, openSubscribedSocket, waitForAnswer, waitForText } from "./chat.ts";
import { startDatabaseServer } from "./database-server.ts";
import { createInstallation, type Parley, TEST_TIMEOUT_MS } from "./installation.ts";

setDefaultTimeout(TEST_TIMEOUT_MS);

/** Maximum time until a different process completes an answer that a killed process left unfinished. */
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
async function watchTakeover(chat: Chat, answerId: string, survivingInstance: Parley, killedAtMs: number) {
  const { frames } = chat.socket;
  const partialAnswer = assembleAnswer(frames, answerId);
  const newSocket = await openSubscribedSocket(survivingInstance, chat.account, chat.conversationId);
  const { message, resets } = await waitForAnswer(newSocket, answerId, TAKEOVER_MAX_MS);
  const durationMs = Date.now() - killedAtMs;
  // A client that reconnects must be able to assemble the answer from all of its frames.
  const fullAnswer = assembleAnswer([...frames, ...newSocket.frames], answerId);
  await newSocket.close();
  return { partialAnswer, resets, message, fullAnswer, durationMs };
}

type Takeover = Awaited<ReturnType<typeof watchTakeover>>;

function expectContinued({ partialAnswer, resets, message, fullAnswer, durationMs }: Takeover): void {
  expect(durationMs).toBeLessThan(TAKEOVER_MAX_MS);
  expect(partialAnswer.attempts).toEqual([1]);
  expect(resets.at(-1)?.attempt).toBeGreaterThan(1);
  expect(message).toMatchObject({ status: "complete", finish_reason: "stop", error: null });
  expect(message.content).toEndWith("and here is the rest.");
  expect(fullAnswer.finalMessage).toEqual(message as never);
}

test.concurrent("answers continue after kill -9 and a restart", async () => {
  const installation = await createInstallation({ env });
  try {
    const firstParley = await installation.start();
    const lateChat = await openChat(firstParley);
    const lateId = await lateChat.requestAnswer("compatible/late");
    await waitForText(lateChat.socket, lateId, 200);
    const earlyChat = await openChat(firstParley);
    const earlyId = await earlyChat.requestAnswer("compatible/early");
    await waitForText(earlyChat.socket, earlyId, 1);
    await firstParley.kill();
    const killedAtMs = Date.now();
    await Promise.all([lateChat.socket.closed, earlyChat.socket.closed]);
    const secondParley = await installation.start();
    expect((await lateChat.fetchAnswer(secondParley, lateId)).status).toBe("streaming");

    const [lateTakeover, earlyTakeover] = await Promise.all([
      watchTakeover(lateChat, lateId, secondParley, killedAtMs),
      watchTakeover(earlyChat, earlyId, secondParley, killedAtMs),
    ]);
    for (const takeover of [lateTakeover, earlyTakeover]) expectContinued(takeover);
    // Checkpoints are half a second apart, so the long answer lost little text.
    const keptLength = lateTakeover.message.content.indexOf("and here is");
    expect(keptLength).toBeGreaterThan(80);
    expect(lateTakeover.partialAnswer.text).toStartWith(lateTakeover.message.content.slice(0, keptLength).trimEnd());
    expect(await lateChat.fetchAnswer(secondParley, lateId)).toEqual(lateTakeover.message);
    const continuationRequest = JSON.stringify(mockProvider.listRequests("late").at(-1)?.body);
    expect(continuationRequest).toContain(lateTakeover.message.content.slice(0, keptLength).trimEnd());
  } finally {
    await installation.remove();
  }
});

test.concurrent("if one of two instances is killed, the other instance completes its answer", async () => {
  const server = await startDatabaseServer();
  const installation = await createInstallation({ env: { ...env, DATABASE_URL: await server.createDatabase() } });
  try {
    const killedInstance = await installation.start();
    const survivingInstance = await installation.start();
    const chat = await openChat(killedInstance);
    const id = await chat.requestAnswer("compatible/moved");
    await waitForText(chat.socket, id, 200);
    const survivingSocket = await openSubscribedSocket(survivingInstance, chat.account, chat.conversationId);
    await killedInstance.kill();
    const takeover = await watchTakeover(chat, id, survivingInstance, Date.now());
    expectContinued(takeover);
    // A client that was connected to the other instance receives the rest of the answer, too.
    expect((await waitForAnswer(survivingSocket, id)).message).toEqual(takeover.message);
    expect(mockProvider.listRequests("moved")).toHaveLength(2);
  } finally {
    await installation.remove();
    await server.stop();
  }
});
