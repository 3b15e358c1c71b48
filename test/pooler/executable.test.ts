import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { openSubscribedSocket } from "../acceptance/chat.ts";
import { type DatabaseServer, startDatabaseServer } from "../acceptance/database-server.ts";
import { createInstallation, type Installation, type Parley, TEST_TIMEOUT_MS } from "../acceptance/installation.ts";
import { createConversation } from "../support/conversation.ts";
import { startPgBouncer, type TestPgBouncer } from "../support/pgbouncer.ts";

setDefaultTimeout(TEST_TIMEOUT_MS);

const RETRY_MS = 20;

let server: DatabaseServer;
let pooler: TestPgBouncer;
let installation: Installation;
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
  installation = await createInstallation({
    env: { DATABASE_URL: url.href, RATE_LIMIT_ENABLED: "false", LOG_LEVEL: "info" },
  });
  // Both instances migrate the empty database.
  instances = await Promise.all([installation.start(), installation.start()]);
});
afterAll(async () => {
  await installation?.remove();
  await pooler?.stop();
  await server?.stop();
});

/** Creates a function that sends a message until it is acknowledged, and returns the errors before that. */
async function createSender(parley: Parley) {
  const account = await instances[0].register();
  const { id: conversation_id } = await createConversation(instances[0], account);
  const socket = await openSubscribedSocket(parley, account, conversation_id);
  return async (content: string): Promise<unknown[]> => {
    const errors: unknown[] = [];
    for (;;) {
      const frame = { conversation_id, content, client_message_id: content, reply: false };
      const response = await socket.request({ type: "message.send", ...frame });
      if (response.type === "ack") return errors;
      errors.push(response.code);
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
    const send = await createSender(parley);
    for (let n = 0; n < 20; n += 1) expect(await send(`Message ${n}`)).toEqual([]);
  }
});

test("a Postgres restart behind PgBouncer causes only temporary errors", async () => {
  const send = await createSender(instances[0]);
  await send("before");
  await server.shutDown("fast");
  await waitForStatus(instances[0], 503);
  const pendingSend = send("during the restart");
  await server.start();
  await waitForStatus(instances[0], 200);
  expect((await pendingSend).filter((code) => code !== "unavailable")).toEqual([]);
  expect(await send("after")).toEqual([]);
});

test("an instance waits to start, and logs the reason, if PgBouncer rejects additional connections", async () => {
  const adminUrl = `postgres://postgres@127.0.0.1:${pooler.port}/pgbouncer`;
  pooler.writeConfig({ max_client_conn: "1" });
  await server.psqlAt(adminUrl, "reload");
  const thirdInstance = await installation.start({ until: "listening" });
  while (!thirdInstance.readLog().includes("max_client_conn")) await Bun.sleep(RETRY_MS);
  expect(thirdInstance.readLog()).toContain("raise PgBouncer's max_client_conn");
  expect((await fetch(`${thirdInstance.url}/readyz`)).status).toBe(503);
  pooler.writeConfig();
  await server.psqlAt(adminUrl, "reload");
  await thirdInstance.waitUntilReady();
  expect((await thirdInstance.stop()).code).toBe(0);
});

test("commands work behind PgBouncer", async () => {
  const { code, stdout } = await installation.run(["migrate", "--status"]);
  expect(code).toBe(0);
  expect(stdout).not.toContain("pending");
});

test("the log has no unexpected errors", () => {
  const errors = installation.readLog().match(/.*"level":"(?:error|fatal)".*/g) ?? [];
  const unexpectedErrors = errors.filter(
    (line) => !/unreachable|not responding|CONNECTION|08P01|57P0|ECONN/.test(line),
  );
  expect(unexpectedErrors).toEqual([]);
});
