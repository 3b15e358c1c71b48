import { afterAll, beforeAll, expect, test } from "bun:test";
import { openDatabase } from "../../src/db/client.ts";
import { createId } from "../../src/lib/id.ts";
import { WAITING_FRAMES_BYTES_MAX } from "../../src/modules/socket/limits.ts";
import { type Account, startApp, type TestApp } from "../support/app.ts";
import { createConversation } from "../support/conversation.ts";
import { createTestDatabase } from "../support/postgres.ts";
import { type Frame, openSocket } from "../support/socket.ts";

const SOCKET_COUNT = 3;
const FRAMES_PER_SOCKET = 900;
const BLOCKING_FRAME_COUNT = 10;
const CONTENT = "x".repeat(30_000);
const isRejected = (frame: Frame) => frame.code === "overloaded" && JSON.stringify(frame).includes("Too many frames");

let testDatabase: Awaited<ReturnType<typeof createTestDatabase>>;
let parley: TestApp;
let account: Account;
let conversation_id: string;
beforeAll(async () => {
  testDatabase = await createTestDatabase();
  parley = await startApp({ database: testDatabase });
  account = await parley.register();
  conversation_id = (await createConversation(parley, account)).id;
});
afterAll(async () => {
  await parley.stop();
  await testDatabase.database.end({ timeout: 1 });
});

test("frames queued behind blocked frames share a byte limit, and frames beyond that limit are rejected as overloaded", async () => {
  expect(SOCKET_COUNT * FRAMES_PER_SOCKET * CONTENT.length).toBeGreaterThan(WAITING_FRAMES_BYTES_MAX);
  const sockets = await Promise.all(
    Array.from({ length: SOCKET_COUNT }, () => openSocket(parley.url, { token: account.access_token })),
  );
  const clientTimeouts = { idleInTransactionMs: 60_000, unreadResultMs: 60_000 };
  const lockingDatabase = openDatabase({ target: testDatabase.target, poolSize: 1, clientTimeouts });
  const unknownId = createId();
  const createFrame = (client_message_id: string, content: string) => ({
    type: "message.send",
    conversation_id: unknownId,
    client_message_id,
    content,
    reply: false,
  });
  try {
    await lockingDatabase.begin(async (sql) => {
      await sql`lock table conversations in access exclusive mode`;
      for (const socket of sockets) {
        // These frames run in sequence, and each waits 2 seconds for the locked table.
        for (let n = 0; n < BLOCKING_FRAME_COUNT; n += 1)
          socket.send({ type: "subscribe", id: `s${n}`, conversation_id });
        for (let n = 0; n < FRAMES_PER_SOCKET; n += 1) socket.send({ id: `f${n}`, ...createFrame(`f${n}`, CONTENT) });
      }
      await Promise.any(sockets.map((socket) => socket.waitFor(isRejected, 20_000)));
    });
  } finally {
    await lockingDatabase.end();
  }
  // Each frame gets a response, and the queue has capacity again.
  const codes = new Map<unknown, number>();
  for (const { frames, waitFor } of sockets) {
    for (let n = 0; n < FRAMES_PER_SOCKET; n += 1) {
      const { code } = await waitFor(({ id }) => id === `f${n}`, 20_000);
      codes.set(code, (codes.get(code) ?? 0) + 1);
    }
    for (const { temporary, retry_after_ms } of frames.filter(isRejected)) {
      expect(temporary).toBe(true);
      expect(retry_after_ms).toBeWithin(1_000, 2_001);
    }
  }
  expect([...codes.keys()].sort()).toEqual(["not_found", "overloaded"]);
  expect((codes.get("not_found") ?? 0) * CONTENT.length).toBeLessThan(1.1 * WAITING_FRAMES_BYTES_MAX);
  for (const socket of sockets) {
    expect((await socket.request(createFrame("small", "small"))).code).toBe("not_found");
    await socket.close();
  }
});
