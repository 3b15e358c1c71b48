import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { type MockProvider, startMockProvider } from "../support/mock-provider/server.ts";
import { openSocket } from "../support/socket.ts";
import { openChat, openSubscribed, readToEnd, waitForText } from "./chat.ts";
import { readAnswer } from "./reader.ts";
import { createSite, type Parley, type Site, TEST_TIMEOUT_MS } from "./site.ts";

setDefaultTimeout(TEST_TIMEOUT_MS);

const words = (count: number) => Array.from({ length: count }, (_, index) => `word${index} `);
const SHORT_TIMEOUT_MS = 2_000;
/** Extra time for the database and the process to stop. */
const END_MS = 1_500;

let mockProvider: MockProvider;
let site: Site;
beforeAll(async () => {
  mockProvider = startMockProvider();
  mockProvider.script("brief", { pieces: words(30), pieceDelayMs: 50 });
  mockProvider.script("endless", { pieces: words(2_000), pieceDelayMs: 50 }, { pieces: ["the ", "end."] });
  site = await createSite({
    env: { COMPATIBLE_BASE_URL: mockProvider.openaiUrl, AI_MODELS: "compatible/brief,compatible/endless" },
  });
});
afterAll(async () => {
  await site?.remove();
  await mockProvider?.stop();
});

/** The health responses from the signal until the process is gone. */
async function probe(parley: Parley): Promise<{ ready: number[]; live: number[] }> {
  const statuses = { ready: [] as number[], live: [] as number[] };
  const get = (path: string) => fetch(`${parley.url}${path}`, { headers: { connection: "close" } });
  for (;;) {
    try {
      statuses.ready.push((await get("/readyz")).status);
      statuses.live.push((await get("/livez")).status);
    } catch {
      return statuses;
    }
    await Bun.sleep(20);
  }
}

test("SIGTERM waits for the answer, closes the sockets, and exits with 0", async () => {
  const parley = await site.start();
  const chat = await openChat(parley);
  const id = await chat.ask("compatible/brief");
  await waitForText(chat.socket, id, 20);
  const idle = await openSocket(parley.url, { token: chat.account.access_token });
  const feed = await parley.fetch(`/api/v1/conversations/${chat.conversationId}/events`, {
    token: chat.account.access_token,
    headers: { accept: "text/event-stream" },
  });

  const stopping = parley.stop();
  await idle.waitFor(({ type }) => type === "server.draining", 1_000);
  const probing = probe(parley);
  for (const socket of [chat.socket, idle]) {
    expect((await socket.closed).code).toBe(4001);
    const [draining] = socket.list("server.draining");
    expect(draining?.reconnect_after_ms).toBeGreaterThanOrEqual(0);
  }
  const refused = await parley.fetch(`/api/v1/conversations/${chat.conversationId}/messages`, {
    token: chat.account.access_token,
    json: { content: "One more?", reply: true },
  });
  expect({ status: refused.status, code: ((await refused.json()) as { code: string }).code }).toEqual({
    status: 503,
    code: "draining",
  });
  const { code, tookMs } = await stopping;
  expect(code).toBe(0);
  expect(tookMs).toBeLessThan(30 * 50 + END_MS);
  const { ready, live } = await probing;
  expect(ready.length).toBeGreaterThan(5);
  expect(new Set(ready)).toEqual(new Set([503]));
  expect(new Set(live)).toEqual(new Set([200]));
  // The SSE client received the whole answer.
  expect(await feed.text()).toContain("message.completed");

  const next = await site.start();
  const message = await chat.get(next, id);
  expect(message).toMatchObject({ status: "complete", content: words(30).join("") });
  const reader = await openSubscribed(next, chat.account, chat.conversationId, 0);
  expect(readAnswer(reader.frames, id).final).toEqual(message as never);
  await reader.close();
  expect((await next.stop("SIGINT")).code).toBe(0);
});

test("leaves an answer that doesn't complete in time to the next start", async () => {
  const parley = await site.start({ env: { SHUTDOWN_TIMEOUT_MS: String(SHORT_TIMEOUT_MS) } });
  const chat = await openChat(parley);
  const id = await chat.ask("compatible/endless");
  await waitForText(chat.socket, id, 20);
  const { code, tookMs } = await parley.stop();
  expect(code).toBe(0);
  expect(tookMs).toBeLessThan(SHORT_TIMEOUT_MS + END_MS);
  const shown = readAnswer(chat.socket.frames, id).text;

  const startedAt = performance.now();
  const next = await site.start();
  const reader = await openSubscribed(next, chat.account, chat.conversationId, 0);
  const { message, resets } = await readToEnd(reader, id, 10_000);
  // Its lease was released, so the successor doesn't wait for it to expire.
  expect(performance.now() - startedAt).toBeLessThan(6_000);
  expect(message).toMatchObject({ status: "complete" });
  expect(message.content).toStartWith(shown.trimEnd());
  expect(message.content).toEndWith("the end.");
  expect(resets.every(({ attempt }) => attempt > 1)).toBe(true);
  await reader.close();
  expect((await next.stop()).code).toBe(0);
});

test("a second signal exits immediately", async () => {
  const parley = await site.start();
  const chat = await openChat(parley);
  const id = await chat.ask("compatible/endless", "Again");
  await waitForText(chat.socket, id, 1).catch(() => {});
  const slow = await chat.ask("compatible/brief");
  await waitForText(chat.socket, slow, 1);
  const first = parley.stop();
  await chat.socket.closed;
  const { tookMs } = await parley.stop();
  expect(tookMs).toBeLessThan(END_MS + 500);
  expect((await first).code).toBe(1);
});
