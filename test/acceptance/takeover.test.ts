import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { type MockProvider, startMockProvider } from "../support/mock-provider/server.ts";
import { type Chat, openChat, openSubscribed, readToEnd, waitForText } from "./chat.ts";
import { startDatabaseServer } from "./database-server.ts";
import { readAnswer } from "./reader.ts";
import { createSite, type Parley, TEST_TIMEOUT_MS } from "./site.ts";

setDefaultTimeout(TEST_TIMEOUT_MS);

/** From the contract: another instance finishes or restarts the answer of a dead one within this. */
const TAKEOVER_MAX_MS = 15_000;

const slow = { pieces: Array.from({ length: 400 }, (_, index) => `first${index} `), pieceDelayMs: 50 };
const rest = { pieces: ["and ", "here ", "is ", "the ", "rest."], pieceDelayMs: 20 };

let mockProvider: MockProvider;
let env: Record<string, string>;
beforeAll(() => {
  mockProvider = startMockProvider();
  const models = ["early", "late", "moved"].map((name) => `compatible/${name}`).join(",");
  env = { COMPATIBLE_BASE_URL: mockProvider.openaiUrl, AI_MODELS: models };
  for (const name of ["early", "late", "moved"]) mockProvider.script(name, slow, rest);
});
afterAll(() => mockProvider?.stop());

/** What a reader sees after reconnecting to the surviving instance. */
async function watchTakeover(chat: Chat, answerId: string, survivor: Parley, killedAtMs: number) {
  const { frames } = chat.socket;
  const before = readAnswer(frames, answerId);
  const reader = await openSubscribed(survivor, chat.account, chat.conversationId);
  const { message, resets } = await readToEnd(reader, answerId, TAKEOVER_MAX_MS);
  const tookMs = Date.now() - killedAtMs;
  // The same client continues: its earlier frames, then the new ones.
  const whole = readAnswer([...frames, ...reader.frames], answerId);
  await reader.close();
  return { before, resets, message, whole, tookMs };
}

type Takeover = Awaited<ReturnType<typeof watchTakeover>>;

function expectContinued({ before, resets, message, whole, tookMs }: Takeover): void {
  expect(tookMs).toBeLessThan(TAKEOVER_MAX_MS);
  expect(before.attempts).toEqual([1]);
  expect(resets.at(-1)?.attempt).toBeGreaterThan(1);
  expect(message).toMatchObject({ status: "complete", finish_reason: "stop", error: null });
  expect(message.content).toEndWith("and here is the rest.");
  expect(whole.final).toEqual(message as never);
}

test.concurrent("after kill -9 and a restart, answers continue: one in progress, one just started", async () => {
  const site = await createSite({ env });
  try {
    const first = await site.start();
    const late = await openChat(first);
    const lateId = await late.ask("compatible/late");
    await waitForText(late.socket, lateId, 200);
    const early = await openChat(first);
    const earlyId = await early.ask("compatible/early");
    await waitForText(early.socket, earlyId, 1);
    await first.kill();
    const killedAtMs = Date.now();
    await Promise.all([late.socket.closed, early.socket.closed]);
    const second = await site.start();
    expect((await late.get(second, lateId)).status).toBe("streaming");

    const [lateSeen, earlySeen] = await Promise.all([
      watchTakeover(late, lateId, second, killedAtMs),
      watchTakeover(early, earlyId, second, killedAtMs),
    ]);
    for (const seen of [lateSeen, earlySeen]) expectContinued(seen);
    // Checkpoints are half a second apart: little of the long answer was lost.
    const kept = lateSeen.message.content.indexOf("and here is");
    expect(kept).toBeGreaterThan(80);
    expect(lateSeen.before.text).toStartWith(lateSeen.message.content.slice(0, kept).trimEnd());
    expect(await late.get(second, lateId)).toEqual(lateSeen.message);
    const asked = JSON.stringify(mockProvider.requestsOf("late").at(-1)?.body);
    expect(asked).toContain(lateSeen.message.content.slice(0, kept).trimEnd());
  } finally {
    await site.remove();
  }
});

test.concurrent("if one of two instances on the same Postgres server is killed, the other completes its answer", async () => {
  const server = await startDatabaseServer();
  const site = await createSite({ env: { ...env, DATABASE_URL: await server.createDatabase() } });
  try {
    const owner = await site.start();
    const other = await site.start();
    const chat = await openChat(owner);
    const id = await chat.ask("compatible/moved");
    await waitForText(chat.socket, id, 200);
    const watcher = await openSubscribed(other, chat.account, chat.conversationId);
    await owner.kill();
    const seen = await watchTakeover(chat, id, other, Date.now());
    expectContinued(seen);
    // A reader that was connected to the other instance all along gets the end too.
    expect((await readToEnd(watcher, id)).message).toEqual(seen.message);
    expect(mockProvider.requestsOf("moved")).toHaveLength(2);
  } finally {
    await site.remove();
    await server.stop();
  }
});
