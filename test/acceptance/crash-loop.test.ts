import { expect, setDefaultTimeout, test } from "bun:test";
import { startMockProvider } from "../support/mock-provider/server.ts";
import { openChat, waitForText } from "./chat.ts";
import { startDatabaseServer } from "./database-server.ts";
import { createInstallation } from "./installation.ts";

setDefaultTimeout(120_000);

/** Maximum number of interrupted attempts (src/modules/generations/final-states.ts). */
const INTERRUPTIONS_MAX = 5;

test("an answer that crashes the server is attempted five times, then fails and keeps its partial text", async () => {
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
  const installation = await createInstallation({ env });
  try {
    const waitForRequests = async (count: number) => {
      while (mockProvider.listRequests("deadly").length < count) await Bun.sleep(20);
      // The server needs time to store some of the text.
      await Bun.sleep(700);
    };
    let parley = await installation.start();
    const chat = await openChat(parley);
    const id = await chat.requestAnswer();
    await waitForText(chat.socket, id, 1);
    for (let attempt = 1; attempt <= INTERRUPTIONS_MAX; attempt += 1) {
      await waitForRequests(attempt);
      await parley.kill();
      await expireLeases();
      parley = await installation.start();
    }
    let answer = await chat.fetchAnswer(parley, id);
    while (answer.status === "streaming") {
      await Bun.sleep(100);
      answer = await chat.fetchAnswer(parley, id);
    }
    expect(answer).toMatchObject({ status: "failed", finish_reason: "error", error: { code: "internal" } });
    expect(answer.content).toStartWith("w0 w1 ");
    expect(mockProvider.listRequests("deadly")).toHaveLength(INTERRUPTIONS_MAX);
  } finally {
    await installation.remove();
    await server.stop();
    await mockProvider.stop();
  }
});
