import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { getPooling, openDatabase } from "../../src/db/client.ts";
import { migrate } from "../../src/db/migrate.ts";
import { prepareSession } from "../../src/db/session-check.ts";
import { gatherStatistics } from "../../src/db/statistics.ts";
import { createId } from "../../src/lib/id.ts";
import { type Account, startApp, type TestApp } from "../support/app.ts";
import { createConversation } from "../support/conversation.ts";
import { startInstalledPostgres } from "../support/installed-postgres.ts";
import { createLinkedBuses } from "../support/linked-buses.ts";
import { silentLog } from "../support/log.ts";
import { type MockProvider, startMockProvider } from "../support/mock-provider/server.ts";
import { startPgBouncer, type TestPgBouncer } from "../support/pgbouncer.ts";
import { openSocket, type TestSocket } from "../support/socket.ts";

const RETRY_MS = 20;
const MESSAGE_COUNT = 200;

let server: Awaited<ReturnType<typeof startInstalledPostgres>>;
let provider: MockProvider;
beforeAll(async () => {
  server = await startInstalledPostgres({ settings: { fsync: "off" } });
  // Parley must work with these defaults, because session settings don't reach Postgres.
  await server.psql(
    "create role strict login superuser",
    "alter role strict set default_transaction_isolation = 'serializable'",
    "create role plain login superuser",
  );
  provider = startMockProvider();
});
afterAll(async () => {
  await provider.stop();
  await server.stop();
});

describe.each([
  ["transaction", "plain", 4],
  ["transaction", "strict", 4],
  // The migration lock needs one connection, and indexes that are built outside its transaction need another.
  ["transaction", "plain", 2],
  ["session", "plain", 90],
] as const)("behind PgBouncer in %s mode, with the role %s and %d connections", (mode, user, poolSize) => {
  const link = createLinkedBuses();
  let pooler: TestPgBouncer;
  let instances: TestApp[];
  let databases: ReturnType<typeof openDatabase>[];
  let account: Account;
  let conversation_id: string;
  let sockets: TestSocket[];

  beforeAll(async () => {
    const name = `pooled_${createId().replaceAll("-", "")}`;
    await server.psql(`create database ${name}`);
    pooler = await startPgBouncer({
      socketDirectory: server.socketDirectory,
      mode,
      poolSize,
      users: [user, "postgres"],
    });
    databases = [0, 1].map(() => openDatabase({ target: { url: pooler.url(name, user) }, poolSize: 5 }));
    // Both instances migrate the empty database at the same time.
    await Promise.all(
      databases.map(async (database) => {
        await prepareSession(database, silentLog);
        await migrate(database, silentLog);
      }),
    );
    const config = {
      COMPATIBLE_BASE_URL: provider.openaiUrl,
      AI_MODELS: "compatible/one",
      AI_MAX_RETRIES: "0",
    };
    instances = await Promise.all(
      databases.map((database, n) =>
        startApp({ config, bus: link.buses[n], database: { database, name, target: { ...server, database: name } } }),
      ),
    );
    const [firstApp, secondApp] = instances as [TestApp, TestApp];
    account = await firstApp.register();
    conversation_id = (await createConversation(firstApp, account)).id;
    sockets = await Promise.all(
      [firstApp, secondApp].map((instance) => openSocket(instance.url, { token: account.access_token })),
    );
  });
  afterAll(async () => {
    await Promise.all(instances.map((instance) => instance.stop()));
    await Promise.all(databases.map((database) => database.end({ timeout: 1 })));
    await pooler.stop();
  });

  /** Sends a message until it is acknowledged, and returns its seq. */
  async function sendUntilAcked(socket: TestSocket, content: string, errors: Set<unknown>): Promise<number> {
    for (;;) {
      const frame = { conversation_id, content, client_message_id: content, reply: false };
      const response = await socket.request({ type: "message.send", ...frame });
      if (response.type === "ack") return (response.message as { seq: number }).seq;
      errors.add(response.code);
      await Bun.sleep(RETRY_MS);
    }
  }

  const listContents = async (): Promise<string[]> => {
    const rows = await (databases[0] as ReturnType<typeof openDatabase>)<{ content: string }[]>`
      select content from messages where conversation_id = ${conversation_id} and role = 'user' order by seq`;
    return rows.map(({ content }) => content);
  };

  test("the mode is detected", () => expect(databases.map(getPooling)).toEqual([mode, mode]));

  test("two instances store concurrent messages once and in order", async () => {
    const name = createId();
    const errors = new Set();
    const sentSeqs = await Promise.all(
      Array.from({ length: MESSAGE_COUNT }, (_, n) =>
        sendUntilAcked(sockets[n % 2] as TestSocket, `${name} ${n}`, errors),
      ),
    );
    expect([...errors]).toEqual([]);
    const contents = (await listContents()).filter((content) => content.startsWith(name));
    expect(contents.length).toBe(MESSAGE_COUNT);
    expect(new Set(sentSeqs).size).toBe(MESSAGE_COUNT);
  });

  test("answers are streamed and stored", async () => {
    const { access_token: token } = account;
    const [firstApp] = instances as [TestApp];
    const path = `/api/v1/conversations/${conversation_id}/messages`;
    const response = await firstApp.fetch(path, { token, json: { content: "A question", reply: true } });
    expect(response.status).toBe(201);
    const [database] = databases as [ReturnType<typeof openDatabase>];
    let answers: { status: string; content: string }[] = [];
    while (answers[0]?.status !== "complete") {
      await Bun.sleep(RETRY_MS);
      answers = await database`
        select status, content from messages where conversation_id = ${conversation_id} and role = 'assistant'`;
    }
    expect(answers[0]?.content.length).toBeGreaterThan(0);
  });

  test("concurrent changes of different kinds succeed", async () => {
    const { access_token: token } = account;
    const statuses = await Promise.all(
      Array.from({ length: 40 }, async (_, n) => {
        const instance = instances[n % 2] as TestApp;
        const path = `/api/v1/conversations/${conversation_id}`;
        const change = [
          () => instance.fetch(path, { token, method: "PATCH", json: { title: `Title ${n}` } }),
          () => instance.fetch("/api/v1/conversations", { token, json: { title: `New ${n}` } }),
          () => instance.fetch(`${path}/messages`, { token, json: { content: `Rest ${n}`, reply: false } }),
          () => instance.fetch("/api/v1/conversations?limit=5", { token }),
        ][n % 4] as () => Promise<Response>;
        return (await change()).status;
      }),
    );
    expect(statuses.filter((status) => status > 201)).toEqual([]);
  });

  test("statistics are gathered", () => gatherStatistics(databases[0] as ReturnType<typeof openDatabase>));

  test("a PgBouncer crash causes only temporary errors, and no message is lost", async () => {
    const name = createId();
    let isFinished = false;
    const ackedContents: string[] = [];
    const errors = new Set<unknown>();
    const sendLoops = Promise.all(
      sockets.map(async (socket, index) => {
        for (let n = 0; !isFinished; n += 1) {
          const content = `${name} ${index} ${n}`;
          await sendUntilAcked(socket, content, errors);
          ackedContents.push(content);
        }
      }),
    );
    while (ackedContents.length < 20) await Bun.sleep(RETRY_MS);
    await pooler.kill();
    const [firstApp] = instances as [TestApp];
    while ((await firstApp.fetch("/readyz")).status !== 503) await Bun.sleep(RETRY_MS);
    while (errors.size === 0) await Bun.sleep(RETRY_MS);
    await pooler.start();
    while ((await firstApp.fetch("/readyz")).status !== 200) await Bun.sleep(RETRY_MS);
    const ackedCountBefore = ackedContents.length;
    while (ackedContents.length < ackedCountBefore + 20) await Bun.sleep(RETRY_MS);
    isFinished = true;
    await sendLoops;
    expect([...errors]).toEqual(["unavailable"]);
    const storedContents = (await listContents()).filter((content) => content.startsWith(name));
    expect(storedContents.sort()).toEqual(ackedContents.sort());
  });
});
