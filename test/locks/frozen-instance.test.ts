import { expect, test } from "bun:test";
import { join } from "node:path";
import { startApp } from "../support/app.ts";
import { createConversation } from "../support/conversation.ts";
import { createTestDatabase } from "../support/postgres.ts";
import { createRest } from "../support/rest.ts";

test("an instance that is frozen inside a transaction holds others for about 10 s at most", async () => {
  const database = await createTestDatabase();
  const parley = await startApp({ database });
  const account = await parley.register();
  const rest = createRest(parley, account);
  const { id } = await createConversation(parley, account);
  const frozen = Bun.spawn(
    [process.execPath, join(import.meta.dir, "holder.ts"), JSON.stringify(database.target), id],
    {
      stdout: "pipe",
      stderr: "inherit",
    },
  );
  try {
    await frozen.stdout.getReader().read();
    frozen.kill("SIGSTOP");
    const startedAtMs = performance.now();
    const sent = await rest.ask("POST", `/conversations/${id}/messages`, { content: "hello", reply: false });
    const tookMs = performance.now() - startedAtMs;
    expect(sent.status).toBe(201);
    expect(tookMs).toBeGreaterThan(2_000);
    expect(tookMs).toBeLessThan(14_000);
  } finally {
    frozen.kill("SIGKILL");
    await parley.stop();
    await database.database.end({ timeout: 1 });
  }
}, 40_000);
