import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { type ProviderStandIn, startProviderStandIn } from "../support/provider-stand-in/server.ts";
import { openSocket } from "../support/socket.ts";
import { openSubscribed, readToEnd, startAsking, waitForText } from "./asking.ts";
import { readAnswer } from "./reader.ts";
import { createSite, type Parley, type Site, TEST_TIMEOUT_MS } from "./site.ts";

setDefaultTimeout(TEST_TIMEOUT_MS);

const words = (count: number) => Array.from({ length: count }, (_, index) => `word${index} `);
const SHORT_TIMEOUT_MS = 2_000;
/** The database and the process itself need their time as well. */
const END_MS = 1_500;

let standIn: ProviderStandIn;
let site: Site;
beforeAll(async () => {
  standIn = startProviderStandIn();
  standIn.script("brief", { pieces: words(30), pieceDelayMs: 50 });
  standIn.script("endless", { pieces: words(2_000), pieceDelayMs: 50 }, { pieces: ["the ", "end."] });
  site = await createSite({
    env: { COMPATIBLE_BASE_URL: standIn.openaiUrl, AI_MODELS: "compatible/brief,compatible/endless" },
  });
});
afterAll(async () => {
  await site?.remove();
  await standIn?.stop();
});

/** How it answers from the moment of the signal until it is gone. */
async function probe(parley: Parley): Promise<{ ready: number[]; live: number[] }> {
  const statuses = { ready: [] as number[], live: [] as number[] };
  const look = (path: string) => fetch(`${parley.url}${path}`, { headers: { connection: "close" } });
  for (;;) {
    try {
      statuses.ready.push((await look("/readyz")).status);
      statuses.live.push((await look("/livez")).status);
    } catch {
      return statuses;
    }
    await Bun.sleep(20);
  }
}

test("SIGTERM lets the answer end, sends the sockets away, and ends with 0", async () => {
  const parley = await site.start();
  const asking = await startAsking(parley);
  const id = await asking.ask("compatible/brief");
  await waitForText(asking.socket, id, 20);
  const idle = await openSocket(parley.url, { token: asking.account.access_token });
  const feed = await parley.fetch(`/api/v1/conversations/${asking.conversationId}/events`, {
    token: asking.account.access_token,
    headers: { accept: "text/event-stream" },
  });

  const stopping = parley.stop();
  await idle.waitFor(({ type }) => type === "server.draining", 1_000);
  const probing = probe(parley);
  for (const socket of [asking.socket, idle]) {
    expect((await socket.closed).code).toBe(4001);
    const [draining] = socket.list("server.draining");
    expect(draining?.reconnect_after_ms).toBeGreaterThanOrEqual(0);
  }
  const refused = await parley.fetch(`/api/v1/conversations/${asking.conversationId}/messages`, {
    token: asking.account.access_token,
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
  // Who watched over SSE has seen the answer to its end.
  expect(await feed.text()).toContain("message.completed");

  const next = await site.start();
  const message = await asking.get(next, id);
  expect(message).toMatchObject({ status: "complete", content: words(30).join("") });
  const reader = await openSubscribed(next, asking.account, asking.conversationId, 0);
  expect(readAnswer(reader.frames, id).final).toEqual(message as never);
  await reader.close();
  expect((await next.stop("SIGINT")).code).toBe(0);
});

test("an answer that does not end in time is left to the next start", async () => {
  const parley = await site.start({ env: { SHUTDOWN_TIMEOUT_MS: String(SHORT_TIMEOUT_MS) } });
  const asking = await startAsking(parley);
  const id = await asking.ask("compatible/endless");
  await waitForText(asking.socket, id, 20);
  const { code, tookMs } = await parley.stop();
  expect(code).toBe(0);
  expect(tookMs).toBeLessThan(SHORT_TIMEOUT_MS + END_MS);
  const shown = readAnswer(asking.socket.frames, id).text;

  const startedAt = performance.now();
  const next = await site.start();
  const reader = await openSubscribed(next, asking.account, asking.conversationId, 0);
  const { message, resets } = await readToEnd(reader, id, 10_000);
  // It was let go of, so nobody waits for a lease to run out.
  expect(performance.now() - startedAt).toBeLessThan(6_000);
  expect(message).toMatchObject({ status: "complete" });
  expect(message.content).toStartWith(shown.trimEnd());
  expect(message.content).toEndWith("the end.");
  expect(resets.every(({ attempt }) => attempt > 1)).toBe(true);
  await reader.close();
  expect((await next.stop()).code).toBe(0);
});

test("a second signal ends it at once", async () => {
  const parley = await site.start();
  const asking = await startAsking(parley);
  const id = await asking.ask("compatible/endless", "Again");
  await waitForText(asking.socket, id, 1).catch(() => {});
  const slow = await asking.ask("compatible/brief");
  await waitForText(asking.socket, slow, 1);
  const first = parley.stop();
  await asking.socket.closed;
  const { tookMs } = await parley.stop();
  expect(tookMs).toBeLessThan(END_MS + 500);
  expect((await first).code).toBe(1);
});
