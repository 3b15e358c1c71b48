import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { createConversation } from "../support/conversation.ts";
import { range } from "./assemble-answer.ts";
import { openSubscribedSocket } from "./chat.ts";
import { type DatabaseServer, startDatabaseServer } from "./database-server.ts";
import { createInstallation, type Installation, type Parley, TEST_TIMEOUT_MS } from "./installation.ts";
import { createContent, fetchHistory, type StoredMessage } from "./sender.ts";

setDefaultTimeout(TEST_TIMEOUT_MS);

const RETRY_MS = 50;
const RESPONSE_MAX_MS = 3_000;

/** Starts a client that sends messages one by one, and resends each message until it is acknowledged. */
async function startRetryingSender(parley: Parley) {
  const account = await parley.register();
  const { id: conversationId } = await createConversation(parley, account);
  const socket = await openSubscribedSocket(parley, account, conversationId);
  const ackedMessages: StoredMessage[] = [];
  const receivedErrors = new Set<string>();
  let isStopped = false;
  const sendLoop = (async () => {
    for (let n = 1; !isStopped; n += 1) {
      const id = `m${n}`;
      const frame = {
        conversation_id: conversationId,
        client_message_id: id,
        content: createContent(id),
        reply: false,
      };
      for (;;) {
        const response = await socket.request({ type: "message.send", ...frame });
        if (response.type === "ack") {
          ackedMessages.push(response.message as StoredMessage);
          break;
        }
        receivedErrors.add(`${response.code} ${response.temporary}`);
        await Bun.sleep(RETRY_MS);
      }
    }
  })();
  return {
    account,
    conversationId,
    ackedMessages,
    receivedErrors,
    async stop(): Promise<void> {
      isStopped = true;
      await sendLoop;
      await socket.close();
    },
  };
}

type RetryingSender = Awaited<ReturnType<typeof startRetryingSender>>;

/** Checks that the sender can still send over its connection, and that all acknowledged messages are stored. */
async function expectNoDataLoss(parley: Parley, sender: RetryingSender): Promise<void> {
  const ackedCountBefore = sender.ackedMessages.length;
  while (sender.ackedMessages.length < ackedCountBefore + 5) await Bun.sleep(RETRY_MS);
  await sender.stop();
  expect(sender.receivedErrors).toEqual(new Set(["unavailable true"]));
  const history = await fetchHistory(parley, sender.account, sender.conversationId);
  expect(history).toEqual(sender.ackedMessages);
  expect(history.map(({ seq }) => seq)).toEqual(range(1, history.length));
}

const waitForStatus = async (parley: Parley, path: string, status: number): Promise<void> => {
  while ((await fetch(`${parley.url}${path}`)).status !== status) await Bun.sleep(RETRY_MS);
};

async function expectUnavailable(parley: Parley, token: string): Promise<void> {
  for (const path of ["/api/v1/me", "/api/v1/conversations"]) {
    const startedAtMs = performance.now();
    const response = await parley.fetch(path, { token });
    expect(response.headers.get("content-type")).toBe("application/problem+json");
    expect(Number(response.headers.get("retry-after"))).toBeGreaterThan(0);
    const problem = (await response.json()) as Record<string, unknown>;
    expect({ status: response.status, ...problem }).toMatchObject({ status: 503, code: "unavailable" });
    expect(JSON.stringify(problem)).not.toMatch(/ECONN|127\.0\.0\.1|postgres|CONNECTION/i);
    expect(performance.now() - startedAtMs).toBeLessThan(RESPONSE_MAX_MS);
  }
}

describe("while the Postgres server is unavailable", () => {
  let server: DatabaseServer;
  let installation: Installation;
  let parley: Parley;
  beforeAll(async () => {
    server = await startDatabaseServer();
    installation = await createInstallation({ env: { DATABASE_URL: await server.createDatabase() } });
  });
  afterAll(async () => {
    await installation?.remove();
    await server?.stop();
  });

  test("Parley starts, and is live but not ready", async () => {
    await server.shutDown("fast");
    parley = await installation.start({ until: "listening" });
    await Bun.sleep(500);
    expect((await parley.fetch("/livez")).status).toBe(200);
    expect((await parley.fetch("/readyz")).status).toBe(503);
    expect(await (await parley.fetch("/readyz?verbose")).text()).toContain("[-]database");
    await expectUnavailable(parley, "any");
    expect(parley.readLog()).toContain("the database is not responding; retrying");
    await server.start();
    await parley.waitUntilReady();
  });

  test.each(["fast", "immediate"] as const)(
    "requests fail with 503, but no data is lost (%s shutdown)",
    async (mode) => {
      const sender = await startRetryingSender(parley);
      while (sender.ackedMessages.length < 20) await Bun.sleep(RETRY_MS);
      await server.shutDown(mode);
      await waitForStatus(parley, "/readyz", 503);
      expect((await parley.fetch("/livez")).status).toBe(200);
      await expectUnavailable(parley, sender.account.access_token);
      const ackedCountDuringOutage = sender.ackedMessages.length;
      await Bun.sleep(500);
      expect(sender.ackedMessages.length).toBe(ackedCountDuringOutage);
      await server.start();
      await waitForStatus(parley, "/readyz", 200);
      await expectNoDataLoss(parley, sender);
    },
  );
});

describe("the embedded Postgres", () => {
  let installation: Installation;
  let parley: Parley;
  beforeAll(async () => {
    installation = await createInstallation();
    parley = await installation.start();
  });
  afterAll(() => installation?.remove());

  test("is restarted without data loss after being killed", async () => {
    const sender = await startRetryingSender(parley);
    while (sender.ackedMessages.length < 20) await Bun.sleep(RETRY_MS);
    const pid = installation.findPostgresPid();
    if (pid === null) throw new Error("The embedded Postgres is not running.");
    process.kill(pid, "SIGKILL");
    while (sender.receivedErrors.size === 0) await Bun.sleep(RETRY_MS);
    await waitForStatus(parley, "/readyz", 200);
    await expectNoDataLoss(parley, sender);
    expect(installation.findPostgresPid()).not.toBe(pid);
  });
});
