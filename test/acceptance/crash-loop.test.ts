import { expect, setDefaultTimeout, test } from "bun:test";
import { startMockProvider } from "../support/mock-provider/server.ts";
import { openChat, waitForText } from "./chat.ts";
import { startDatabaseServer } from "./database-server.ts";
import { createSite } from "./site.ts";

setDefaultTimeout(120_000);

/** The limit on attempts, which also limits the cost (src/modules/generations/final-states.ts). */
const INTERRUPTIONS_MAX = 5;

test("an answer that crashes the server each time is attempted five times, then fails with its partial text", async () => {
  const mockProvider = startMockProvider();
  mockProvider.script("deadly", { pieces: Array.from({ length: 2_000 }, (_, n) => `w${n} `), pieceDelayMs: 20 });
  const server = await startDatabaseServer();
  const url = await server.createDatabase();
  const expireLeases = () =>
    server.psql(
      `\\c ${new URL(url).pathname.slice(1)}`,
      "update generations set lease_until = now() where status <> 'finished'",
    );
  const env = { COMPATIBLE_BASE_URL: mockProvider.openaiUrl, AI_MODELS: "compatible/deadly", DATABASE_URL: url };
  const site = await createSite({ env });
  try {
    const waitForRequests = async (count: number) => {
      while (mockProvider.requestsOf("deadly").length < count) await Bun.sleep(20);
      // Gives the server time to store some of the text.
      await Bun.sleep(700);
    };
    let parley = await site.start();
    const chat = await openChat(parley);
    const id = await chat.ask();
    await waitForText(chat.socket, id, 1);
    for (let attempt = 1; attempt <= INTERRUPTIONS_MAX; attempt += 1) {
      await waitForRequests(attempt);
      await parley.kill();
      await expireLeases();
      parley = await site.start();
    }
    let answer = await chat.get(parley, id);
    while (answer.status === "streaming") {
      await Bun.sleep(100);
      answer = await chat.get(parley, id);
    }
    expect(answer).toMatchObject({ status: "failed", finish_reason: "error", error: { code: "internal" } });
    expect(answer.content).toStartWith("w0 w1 ");
    expect(mockProvider.requestsOf("deadly")).toHaveLength(INTERRUPTIONS_MAX);
  } finally {
    await site.remove();
    await server.stop();
    await mockProvider.stop();
  }
});
