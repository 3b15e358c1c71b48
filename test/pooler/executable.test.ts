import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { openSubscribed } from "../acceptance/chat.ts";
import { type DatabaseServer, startDatabaseServer } from "../acceptance/database-server.ts";
import { createSite, type Parley, type Site, TEST_TIMEOUT_MS } from "../acceptance/site.ts";
import { createConversation } from "../support/conversation.ts";
import { startPgBouncer, type TestPgBouncer } from "../support/pgbouncer.ts";

setDefaultTimeout(TEST_TIMEOUT_MS);

const RETRY_MS = 20;

let server: DatabaseServer;
let pooler: TestPgBouncer;
let site: Site;
let instances: [Parley, Parley];
beforeAll(async () => {
  server = await startDatabaseServer();
  await server.psql("alter role parley set default_transaction_isolation = 'repeatable read'");
  pooler = await startPgBouncer({
    socketDirectory: server.socketDirectory,
    port: server.port,
    mode: "transaction",
    poolSize: 5,
    users: ["parley", "postgres"],
  });
  const url = new URL(await server.createDatabase());
  url.port = String(pooler.port);
  site = await createSite({ env: { DATABASE_URL: url.href, RATE_LIMIT_ENABLED: "false", LOG_LEVEL: "info" } });
  // Both migrate the empty database.
  instances = await Promise.all([site.start(), site.start()]);
});
afterAll(async () => {
  await site?.remove();
  await pooler?.stop();
  await server?.stop();
});

/** Sends over a socket until it is acknowledged. @returns the errors before that. */
async function startSending(parley: Parley) {
  const account = await instances[0].register();
  const { id: conversation_id } = await createConversation(instances[0], account);
  const socket = await openSubscribed(parley, account, conversation_id);
  return async (content: string): Promise<unknown[]> => {
    const errors: unknown[] = [];
    for (;;) {
      const frame = { conversation_id, content, client_message_id: content, reply: false };
      const answer = await socket.request({ type: "message.send", ...frame });
      if (answer.type === "ack") return errors;
      errors.push(answer.code);
      await Bun.sleep(RETRY_MS);
    }
  };
}

const waitForStatus = async (parley: Parley, status: number): Promise<void> => {
  while ((await fetch(`${parley.url}/readyz`)).status !== status) await Bun.sleep(RETRY_MS);
};

test("two instances start behind PgBouncer without further settings, and store messages", async () => {
  for (const parley of instances) {
    expect(parley.readLog()).toContain('"pool_mode":"transaction"');
    const send = await startSending(parley);
    for (let n = 0; n < 20; n += 1) expect(await send(`Message ${n}`)).toEqual([]);
  }
});

test("Postgres restarts behind PgBouncer: temporary errors, then recovery", async () => {
  const send = await startSending(instances[0]);
  await send("before");
  await server.halt("fast");
  await waitForStatus(instances[0], 503);
  const sending = send("meanwhile");
  await server.start();
  await waitForStatus(instances[0], 200);
  expect((await sending).filter((code) => code !== "unavailable")).toEqual([]);
  expect(await send("after")).toEqual([]);
});

test("PgBouncer is full: the start waits and logs why", async () => {
  const admin = `postgres://postgres@127.0.0.1:${pooler.port}/pgbouncer`;
  pooler.write({ max_client_conn: "1" });
  await server.run(admin, "reload");
  const third = await site.start({ until: "listening" });
  while (!third.readLog().includes("max_client_conn")) await Bun.sleep(RETRY_MS);
  expect(third.readLog()).toContain("raise max_client_conn of PgBouncer");
  expect((await fetch(`${third.url}/readyz`)).status).toBe(503);
  pooler.write();
  await server.run(admin, "reload");
  await third.waitReady();
  expect((await third.stop()).code).toBe(0);
});

test("commands work behind it as well", async () => {
  const { code, output } = await site.run(["migrate", "--status"]);
  expect(code).toBe(0);
  expect(output).not.toContain("pending");
});

test("the log has no unexpected errors", () => {
  const levels = site.readLog().match(/.*"level":"(?:error|fatal)".*/g) ?? [];
  const unknown = levels.filter((line) => !/unreachable|not responding|CONNECTION|08P01|57P0|ECONN/.test(line));
  expect(unknown).toEqual([]);
});
