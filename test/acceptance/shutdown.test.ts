import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { type MockProvider, startMockProvider } from "../support/mock-provider/server.ts";
import { openSocket } from "../support/socket.ts";
import { assembleAnswer } from "./assemble-answer.ts";
import { openChat, openSubscribedSocket, waitForAnswer, waitForText } from "./chat.ts";
import { createInstallation, type Installation, type Parley, TEST_TIMEOUT_MS } from "./installation.ts";

setDefaultTimeout(TEST_TIMEOUT_MS);

const createWords = (count: number) => Array.from({ length: count }, (_, index) => `word${index} `);
const SHORT_TIMEOUT_MS = 2_000;
/** The time that the database and the process need to stop. */
const STOP_OVERHEAD_MS = 1_500;

let mockProvider: MockProvider;
let installation: Installation;
beforeAll(async () => {
  mockProvider = startMockProvider();
  mockProvider.script("brief", { pieces: createWords(30), pieceDelayMs: 50 });
  mockProvider.script("endless", { pieces: createWords(2_000), pieceDelayMs: 50 }, { pieces: ["the ", "end."] });
  installation = await createInstallation({
    env: { COMPATIBLE_BASE_URL: mockProvider.openaiUrl, AI_MODELS: "compatible/brief,compatible/endless" },
  });
});
afterAll(async () => {
  await installation?.remove();
  await mockProvider?.stop();
});

/** Polls the health checks until the process exits. Returns all statuses. */
async function pollHealth(parley: Parley): Promise<{ ready: number[]; live: number[] }> {
  const statuses = { ready: [] as number[], live: [] as number[] };
  const fetchPath = (path: string) => fetch(`${parley.url}${path}`, { headers: { connection: "close" } });
  for (;;) {
    try {
      statuses.ready.push((await fetchPath("/readyz")).status);
      statuses.live.push((await fetchPath("/livez")).status);
    } catch {
      return statuses;
    }
    await Bun.sleep(20);
  }
}

test("on SIGTERM, Parley completes the answer, closes the sockets, and exits with code 0", async () => {
  const parley = await installation.start();
  const chat = await openChat(parley);
  const id = await chat.requestAnswer("compatible/brief");
  await waitForText(chat.socket, id, 20);
  const idleSocket = await openSocket(parley.url, { token: chat.account.access_token });
  const stream = await parley.fetch(`/api/v1/conversations/${chat.conversationId}/events`, {
    token: chat.account.access_token,
    headers: { accept: "text/event-stream" },
  });

  const stopResult = parley.stop();
  await idleSocket.waitFor(({ type }) => type === "server.draining", 1_000);
  const healthStatuses = pollHealth(parley);
  for (const socket of [chat.socket, idleSocket]) {
    expect((await socket.closed).code).toBe(4001);
    const [drainingFrame] = socket.list("server.draining");
    expect(drainingFrame?.reconnect_after_ms).toBeGreaterThanOrEqual(0);
  }
  const rejectedResponse = await parley.fetch(`/api/v1/conversations/${chat.conversationId}/messages`, {
    token: chat.account.access_token,
    json: { content: "One more?", reply: true },
  });
  expect({ status: rejectedResponse.status, code: ((await rejectedResponse.json()) as { code: string }).code }).toEqual(
    {
      status: 503,
      code: "draining",
    },
  );
  const { code, durationMs } = await stopResult;
  expect(code).toBe(0);
  expect(durationMs).toBeLessThan(30 * 50 + STOP_OVERHEAD_MS);
  const { ready, live } = await healthStatuses;
  expect(ready.length).toBeGreaterThan(5);
  expect(new Set(ready)).toEqual(new Set([503]));
  expect(new Set(live)).toEqual(new Set([200]));
  // The event stream stayed open until the answer was complete.
  expect(await stream.text()).toContain("message.completed");

  const restartedParley = await installation.start();
  const message = await chat.fetchAnswer(restartedParley, id);
  expect(message).toMatchObject({ status: "complete", content: createWords(30).join("") });
  const newSocket = await openSubscribedSocket(restartedParley, chat.account, chat.conversationId, 0);
  expect(assembleAnswer(newSocket.frames, id).finalMessage).toEqual(message as never);
  await newSocket.close();
  expect((await restartedParley.stop("SIGINT")).code).toBe(0);
});

test("an answer that exceeds the shutdown timeout is completed after the next start", async () => {
  const parley = await installation.start({ env: { SHUTDOWN_TIMEOUT_MS: String(SHORT_TIMEOUT_MS) } });
  const chat = await openChat(parley);
  const id = await chat.requestAnswer("compatible/endless");
  await waitForText(chat.socket, id, 20);
  const { code, durationMs } = await parley.stop();
  expect(code).toBe(0);
  expect(durationMs).toBeLessThan(SHORT_TIMEOUT_MS + STOP_OVERHEAD_MS);
  const receivedText = assembleAnswer(chat.socket.frames, id).text;

  const startedAtMs = performance.now();
  const restartedParley = await installation.start();
  const newSocket = await openSubscribedSocket(restartedParley, chat.account, chat.conversationId, 0);
  const { message, resets } = await waitForAnswer(newSocket, id, 10_000);
  // The lease was released, so the next process didn't have to wait until it expired.
  expect(performance.now() - startedAtMs).toBeLessThan(6_000);
  expect(message).toMatchObject({ status: "complete" });
  expect(message.content).toStartWith(receivedText.trimEnd());
  expect(message.content).toEndWith("the end.");
  expect(resets.every(({ attempt }) => attempt > 1)).toBe(true);
  await newSocket.close();
  expect((await restartedParley.stop()).code).toBe(0);
});

test("on a second signal, Parley exits immediately", async () => {
  const parley = await installation.start();
  const chat = await openChat(parley);
  const id = await chat.requestAnswer("compatible/endless", "Again");
  await waitForText(chat.socket, id, 1).catch(() => {});
  const secondId = await chat.requestAnswer("compatible/brief");
  await waitForText(chat.socket, secondId, 1);
  const firstStop = parley.stop();
  await chat.socket.closed;
  const { durationMs } = await parley.stop();
  expect(durationMs).toBeLessThan(STOP_OVERHEAD_MS + 500);
  expect((await firstStop).code).toBe(1);
});
