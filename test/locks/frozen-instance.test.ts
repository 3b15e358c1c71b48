import { expect, test } from "bun:test";
import { join } from "node:path";
import { type DatabaseOptions, openDatabase } from "../../src/db/client.ts";
import { LANE_TIMEOUT_MS } from "../../src/db/group-commit.ts";
import { migrate } from "../../src/db/migrate.ts";
import { CLIENT_TIMEOUTS } from "../../src/db/pool.ts";
import { startApp } from "../support/app.ts";
import { createConversation } from "../support/conversation.ts";
import { startInstalledPostgres } from "../support/installed-postgres.ts";
import { silentLog } from "../support/log.ts";
import { createTestDatabase } from "../support/postgres.ts";
import { createRestClient } from "../support/rest.ts";
import { isSoakRun } from "../support/soak.ts";
import { expectUndisturbed, measureDurations } from "./row-locks.ts";

/** Maximum delay after the timeout until waiting requests poll again or TCP retransmits. */
const UNLOCK_DELAY_MS_MAX = 8_000;
const clientTimeouts = isSoakRun ? CLIENT_TIMEOUTS : { idleInTransactionMs: 2_000, unreadResultMs: 2_500 };

/** Starts an instance that locks a conversation, and freezes it after its first output. */
async function startFrozenInstance(
  target: DatabaseOptions["target"],
  conversationId: string,
  ...extraArguments: string[]
) {
  const instance = Bun.spawn(
    [
      process.execPath,
      join(import.meta.dir, "lock-holder.ts"),
      JSON.stringify(target),
      conversationId,
      JSON.stringify(clientTimeouts),
      ...extraArguments,
    ],
    { stdout: "pipe", stderr: "inherit" },
  );
  await instance.stdout.getReader().read();
  // Waits until the next statement is in flight.
  if (extraArguments.length > 0) await Bun.sleep(100);
  instance.kill("SIGSTOP");
  return { [Symbol.dispose]: () => instance.kill("SIGKILL") };
}

test("a frozen instance's transaction times out before the lock timeout of requests", () => {
  expect(CLIENT_TIMEOUTS.idleInTransactionMs).toBeLessThan(LANE_TIMEOUT_MS - 2_000);
});

test("an instance frozen inside a transaction blocks only the conversation that it locked, and only for a limited time", async () => {
  const database = await createTestDatabase();
  const parley = await startApp({ database });
  try {
    const rest = createRestClient(parley, await parley.register());
    const [{ id }, { id: otherId }] = [
      await createConversation(parley, rest.account),
      await createConversation(parley, rest.account),
    ];
    const sendMessage = async (conversationId: string) =>
      expect(
        (await rest.request("POST", `/conversations/${conversationId}/messages`, { content: "hello", reply: false }))
          .status,
      ).toBe(201);
    await measureDurations(300, () => sendMessage(otherId));
    using _ = await startFrozenInstance(database.target, id);
    const startedAtMs = performance.now();
    let durationMs = 0;
    const pendingSend = sendMessage(id).then(() => {
      durationMs = performance.now() - startedAtMs;
    });
    expectUndisturbed(await measureDurations(clientTimeouts.idleInTransactionMs + 1_000, () => sendMessage(otherId)));
    await pendingSend;
    expect(durationMs).toBeGreaterThan(1_000);
    expect(durationMs).toBeLessThan(clientTimeouts.idleInTransactionMs + UNLOCK_DELAY_MS_MAX);
  } finally {
    await parley.stop();
    await database.database.end({ timeout: 1 });
  }
}, 40_000);

test("an instance frozen while it receives a large result is disconnected", async () => {
  const port = 20_000 + Math.floor(Math.random() * 10_000);
  const server = await startInstalledPostgres({ port });
  const target = { url: `postgres://postgres@127.0.0.1:${port}/postgres` };
  const database = openDatabase({ target, poolSize: 2 });
  try {
    await migrate(database, silentLog);
    const id = crypto.randomUUID();
    await database`insert into conversations (id, kind, reply_mode) values (${id}, 'direct', 'never')`;
    using _ = await startFrozenInstance(target, id, "result");
    const isLocked = async () =>
      (await database`select 1 from conversations where id = ${id} for update skip locked`).length === 0;
    while (!(await isLocked())) await Bun.sleep(20);
    const startedAtMs = performance.now();
    while ((await isLocked()) && performance.now() - startedAtMs < 25_000) await Bun.sleep(100);
    expect(performance.now() - startedAtMs).toBeLessThan(clientTimeouts.unreadResultMs + UNLOCK_DELAY_MS_MAX);
  } finally {
    await database.end({ timeout: 1 });
    await server.stop();
  }
}, 60_000);
