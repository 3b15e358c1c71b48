import { expect, setDefaultTimeout, test } from "bun:test";
import { startProviderStandIn } from "../support/provider-stand-in/server.ts";
import { startAsking, waitForText } from "./asking.ts";
import { startDatabaseServer } from "./database-server.ts";
import { createSite } from "./site.ts";

setDefaultTimeout(120_000);

/** An answer is interrupted so often (src/modules/generations/refused-ends.ts), and no more often paid for. */
const INTERRUPTIONS_MAX = 5;

test("an answer during which the server dies each time is asked for five times, and ends with its text", async () => {
  const standIn = startProviderStandIn();
  standIn.script("deadly", { pieces: Array.from({ length: 2_000 }, (_, n) => `w${n} `), pieceDelayMs: 20 });
  const server = await startDatabaseServer();
  const url = await server.createDatabase();
  const expireLeases = () =>
    server.psql(
      `\\c ${new URL(url).pathname.slice(1)}`,
      "update generations set lease_until = now() where status <> 'finished'",
    );
  const env = { COMPATIBLE_BASE_URL: standIn.openaiUrl, AI_MODELS: "compatible/deadly", DATABASE_URL: url };
  const site = await createSite({ env });
  try {
    const waitForRequests = async (count: number) => {
      while (standIn.requestsOf("deadly").length < count) await Bun.sleep(20);
      // So that some of the text is stored.
      await Bun.sleep(700);
    };
    let parley = await site.start();
    const asking = await startAsking(parley);
    const id = await asking.ask();
    await waitForText(asking.socket, id, 1);
    for (let begins = 1; begins <= INTERRUPTIONS_MAX; begins += 1) {
      await waitForRequests(begins);
      await parley.kill();
      await expireLeases();
      parley = await site.start();
    }
    let answer = await asking.get(parley, id);
    while (answer.status === "streaming") {
      await Bun.sleep(100);
      answer = await asking.get(parley, id);
    }
    expect(answer).toMatchObject({ status: "failed", finish_reason: "error", error: { code: "internal" } });
    expect(answer.content).toStartWith("w0 w1 ");
    expect(standIn.requestsOf("deadly")).toHaveLength(INTERRUPTIONS_MAX);
  } finally {
    await site.remove();
    await server.stop();
    await standIn.stop();
  }
});
