import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { createConversation } from "../support/conversation.ts";
import { openSubscribed } from "./chat.ts";
import { type DatabaseServer, startDatabaseServer } from "./database-server.ts";
import { contentOf, readHistory, type StoredMessage } from "./load.ts";
import { range } from "./reader.ts";
import { createSite, type Parley, type Site, TEST_TIMEOUT_MS } from "./site.ts";

setDefaultTimeout(TEST_TIMEOUT_MS);

const RETRY_MS = 50;
const RESPONSE_MAX_MS = 3_000;

/** Sends messages one by one, retrying each until it is acknowledged. */
async function startRetryingSender(parley: Parley) {
  const account = await parley.register();
  const { id: conversationId } = await createConversation(parley, account);
  const socket = await openSubscribed(parley, account, conversationId);
  const acked: StoredMessage[] = [];
  const errors = new Set<string>();
  let isStopped = false;
  const sending = (async () => {
    for (let n = 1; !isStopped; n += 1) {
      const id = `m${n}`;
      const frame = { conversation_id: conversationId, client_message_id: id, content: contentOf(id), reply: false };
      for (;;) {
        const answer = await socket.request({ type: "message.send", ...frame });
        if (answer.type === "ack") {
          acked.push(answer.message as StoredMessage);
          break;
        }
        errors.add(`${answer.code} ${answer.temporary}`);
        await Bun.sleep(RETRY_MS);
      }
    }
  })();
  return {
    account,
    conversationId,
    acked,
    errors,
    async stop(): Promise<void> {
      isStopped = true;
      await sending;
      await socket.close();
    },
  };
}

type RetryingSender = Awaited<ReturnType<typeof startRetryingSender>>;

/** Expects that the sender kept its connection, and that every acknowledged message is stored. */
async function expectNothingLost(parley: Parley, sender: RetryingSender): Promise<void> {
  const ackedBefore = sender.acked.length;
  while (sender.acked.length < ackedBefore + 5) await Bun.sleep(RETRY_MS);
  await sender.stop();
  expect(sender.errors).toEqual(new Set(["unavailable true"]));
  const history = await readHistory(parley, sender.account, sender.conversationId);
  expect(history).toEqual(sender.acked);
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

describe("a Postgres server that becomes unavailable", () => {
  let server: DatabaseServer;
  let site: Site;
  let parley: Parley;
  beforeAll(async () => {
    server = await startDatabaseServer();
    site = await createSite({ env: { DATABASE_URL: await server.createDatabase() } });
  });
  afterAll(async () => {
    await site?.remove();
    await server?.stop();
  });

  test("at start: live but not ready, and ready as soon as the server responds", async () => {
    await server.halt("fast");
    parley = await site.start({ until: "listening" });
    await Bun.sleep(500);
    expect((await parley.fetch("/livez")).status).toBe(200);
    expect((await parley.fetch("/readyz")).status).toBe(503);
    expect(await (await parley.fetch("/readyz?verbose")).text()).toContain("[-]database");
    await expectUnavailable(parley, "any");
    expect(parley.readLog()).toContain("the database is not responding; retrying");
    await server.start();
    await parley.waitReady();
  });

  test.each(["fast", "immediate"] as const)("during a %s stop: responds 503, and loses nothing", async (mode) => {
    const sender = await startRetryingSender(parley);
    while (sender.acked.length < 20) await Bun.sleep(RETRY_MS);
    await server.halt(mode);
    await waitForStatus(parley, "/readyz", 503);
    expect((await parley.fetch("/livez")).status).toBe(200);
    await expectUnavailable(parley, sender.account.access_token);
    const ackedDuringOutage = sender.acked.length;
    await Bun.sleep(500);
    expect(sender.acked.length).toBe(ackedDuringOutage);
    await server.start();
    await waitForStatus(parley, "/readyz", 200);
    await expectNothingLost(parley, sender);
  });
});

describe("the embedded Postgres", () => {
  let site: Site;
  let parley: Parley;
  beforeAll(async () => {
    site = await createSite();
    parley = await site.start();
  });
  afterAll(() => site?.remove());

  test("is restarted after a kill, and loses nothing", async () => {
    const sender = await startRetryingSender(parley);
    while (sender.acked.length < 20) await Bun.sleep(RETRY_MS);
    const pid = site.findPostgres();
    if (pid === null) throw new Error("The embedded Postgres is not running.");
    process.kill(pid, "SIGKILL");
    while (sender.errors.size === 0) await Bun.sleep(RETRY_MS);
    await waitForStatus(parley, "/readyz", 200);
    await expectNothingLost(parley, sender);
    expect(site.findPostgres()).not.toBe(pid);
  });
});
