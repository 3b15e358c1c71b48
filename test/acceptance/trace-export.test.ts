import { expect, setDefaultTimeout, test } from "bun:test";
import { startCollector } from "../support/collector.ts";
import { createConversation } from "../support/conversation.ts";
import { startMockProvider } from "../support/mock-provider/server.ts";
import { waitUntil } from "../support/wait-until.ts";
import { openChat, waitForText } from "./chat.ts";
import { createSite, type Parley, TEST_TIMEOUT_MS } from "./site.ts";

setDefaultTimeout(TEST_TIMEOUT_MS);

const CALLER = { traceId: "0af7651916cd43dd8448eb211c80319c", spanId: "b7ad6b7169203331" };
const headersOf = (flags: string) => ({ traceparent: `00-${CALLER.traceId}-${CALLER.spanId}-${flags}` });

type Asked = { message: { id: string }; reply: { id: string } | null };

/** The spans that `/metrics` has counted, by outcome. */
async function countSpans(parley: Parley): Promise<Record<string, number>> {
  const text = await (await parley.fetch("/metrics")).text();
  const found = text.matchAll(/^parley_trace_spans_total\{outcome="(\w+)"\} (\d+)$/gm);
  return Object.fromEntries([...found].map(([, outcome, count]) => [outcome, Number(count)]));
}

test("with TRACE_CONTEXT=continue, the caller's trace is continued, as sampled by the caller", async () => {
  const collector = startCollector();
  const env = { OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: `${collector.url}/v1/traces`, OTEL_BSP_SCHEDULE_DELAY: "50" };
  const site = await createSite({ env: { ...env, TRACE_CONTEXT: "continue" } });
  try {
    const parley = await site.start();
    await parley.fetch("/api/v1/models", { headers: headersOf("00") });
    await parley.fetch("/version", { headers: headersOf("01") });
    await parley.fetch("/version", { headers: { traceparent: "00-0-0-01" } });
    const [continued, fresh] = await collector.waitFor(({ name }) => name === "GET /version", 2);
    expect(continued).toMatchObject({ traceId: CALLER.traceId, parentId: CALLER.spanId, links: [] });
    expect(fresh?.parentId).toBeNull();
    expect(collector.spans.some(({ name }) => name === "GET /api/v1/models")).toBe(false);

    const { account, conversationId, get } = await openChat(parley);
    const path = `/api/v1/conversations/${conversationId}/messages`;
    const ask = async (flags: string, below = "", json: object = { content: "Hello", reply: true }) => {
      const options = { method: "POST", token: account.access_token, headers: headersOf(flags), json };
      const { reply, message } = (await (await parley.fetch(path + below, options)).json()) as Asked;
      const { id } = reply ?? message;
      await waitUntil(async () => (await get(parley, id)).status === "complete");
      return id;
    };
    const answerId = await ask("00");
    await ask("00", `/${answerId}/regenerate`, {});
    await ask("01");
    const answers = await collector.waitFor(({ name }) => name === "generate answer");
    expect(answers.map(({ traceId }) => traceId)).toEqual([CALLER.traceId]);
  } finally {
    await site.remove();
    await collector.stop();
  }
});

test("after kill -9, the successor's answer is in the trace of the request", async () => {
  const collector = startCollector();
  const mockProvider = startMockProvider();
  const site = await createSite({
    env: {
      OTEL_EXPORTER_OTLP_ENDPOINT: collector.url,
      OTEL_BSP_SCHEDULE_DELAY: "50",
      COMPATIBLE_BASE_URL: mockProvider.openaiUrl,
      AI_MODELS: "compatible/slow",
    },
  });
  try {
    const pieces = Array.from({ length: 400 }, (_, index) => `first${index} `);
    mockProvider.script("slow", { pieces, pieceDelayMs: 50 }, { text: "the rest." });
    const first = await site.start();
    const questions = await openChat(first);
    const answerId = await questions.ask("compatible/slow");
    await waitForText(questions.socket, answerId, 200);
    await first.kill();
    const second = await site.start();
    await waitUntil(async () => (await questions.get(second, answerId)).status === "complete", 30_000);
    const [answer] = await collector.waitFor(({ name }) => name === "generate answer");
    const [frame] = await collector.waitFor(({ name }) => name === "message.send");
    expect(answer).toMatchObject({ traceId: frame?.traceId as string });
    expect(answer?.attributes).toMatchObject({ "parley.message.id": answerId, "parley.generation.owner_number": 2 });
    const [chat] = await collector.waitFor(({ name }) => name === "chat slow");
    expect(chat?.parentId).toBe(answer?.spanId as string);
  } finally {
    await site.remove();
    await Promise.all([collector.stop(), mockProvider.stop()]);
  }
});

test("a collector that never responds changes nothing; spans beyond the queue are dropped and counted", async () => {
  const collector = startCollector(() => new Promise<Response>(() => {}));
  const env = { OTEL_EXPORTER_OTLP_ENDPOINT: collector.url, OTEL_BSP_SCHEDULE_DELAY: "50" };
  const site = await createSite({ env: { ...env, OTEL_BSP_MAX_QUEUE_SIZE: "5", OTEL_EXPORTER_OTLP_TIMEOUT: "60000" } });
  try {
    const parley = await site.start();
    const anna = await parley.register();
    const { id } = await createConversation(parley, anna);
    for (let sent = 0; sent < 20; sent += 1) {
      const json = { content: "Hello", reply: false };
      const response = await parley.fetch(`/api/v1/conversations/${id}/messages`, { token: anna.access_token, json });
      expect(response.status).toBe(201);
    }
    expect((await countSpans(parley)).dropped).toBeGreaterThan(20);
    expect((await countSpans(parley)).exported).toBeUndefined();
    // Nothing of it is left to wait for but the flush, which has its own limit.
    const { code, tookMs } = await parley.stop();
    expect(code).toBe(0);
    expect(tookMs).toBeGreaterThan(1_900);
  } finally {
    await site.remove();
    await collector.stop();
  }
});

test("what the collector refuses is counted and logged; what it asks to retry is sent again", async () => {
  const answers = [503, 200, 400];
  const collector = startCollector(() => {
    const status = answers.shift() ?? 200;
    return status === 200 ? null : new Response("secret text of the collector", { status });
  });
  const env = { OTEL_EXPORTER_OTLP_ENDPOINT: collector.url, OTEL_BSP_SCHEDULE_DELAY: "20" };
  const site = await createSite({ env });
  try {
    const parley = await site.start();
    await parley.fetch("/version");
    await collector.waitFor(({ name }) => name === "GET /version");
    await waitUntil(async () => ((await countSpans(parley)).exported ?? 0) >= 1);
    await parley.fetch("/version");
    await waitUntil(async () => (await countSpans(parley)).failed === 1);
    expect(parley.readLog()).toContain("traces could not be sent to the collector");
    expect(parley.readLog()).toContain("HTTP 400");
    expect(parley.readLog()).not.toContain("secret text");
  } finally {
    await site.remove();
    await collector.stop();
  }
});

test("redirects aren't followed, and an endless response isn't read", async () => {
  const endless = () => new ReadableStream({ pull: (controller) => controller.enqueue(new Uint8Array(65_536)) });
  const paths: string[] = [];
  let redirects = true;
  const collector = startCollector(({ url }) => {
    paths.push(new URL(url).pathname);
    return redirects
      ? new Response(null, { status: 307, headers: { location: "/elsewhere" } })
      : new Response(endless());
  });
  const env = { OTEL_EXPORTER_OTLP_ENDPOINT: collector.url, OTEL_BSP_SCHEDULE_DELAY: "20" };
  const site = await createSite({ env });
  try {
    const parley = await site.start();
    await parley.fetch("/version");
    await waitUntil(async () => ((await countSpans(parley)).failed ?? 0) > 0);
    expect(parley.readLog()).toContain("HTTP 307");
    expect(parley.readLog()).toContain("check OTEL_EXPORTER_OTLP_ENDPOINT");
    redirects = false;
    await parley.fetch("/version");
    await waitUntil(async () => ((await countSpans(parley)).exported ?? 0) > 0);
    expect(new Set(paths)).toEqual(new Set(["/v1/traces"]));
  } finally {
    await site.remove();
    await collector.stop();
  }
});

test("the last spans are sent at the shutdown", async () => {
  const collector = startCollector();
  const env = { OTEL_EXPORTER_OTLP_ENDPOINT: collector.url, OTEL_BSP_SCHEDULE_DELAY: "60000" };
  const site = await createSite({ env });
  try {
    const parley = await site.start();
    await parley.fetch("/version");
    expect(collector.spans).toEqual([]);
    expect((await parley.stop()).code).toBe(0);
    expect(collector.spans.some(({ name }) => name === "GET /version")).toBe(true);
  } finally {
    await site.remove();
    await collector.stop();
  }
});

test("OTEL_SDK_DISABLED turns traces off, OTEL_TRACES_SAMPLER=always_off records none", async () => {
  const collector = startCollector();
  const site = await createSite({ env: { OTEL_EXPORTER_OTLP_ENDPOINT: collector.url, OTEL_BSP_SCHEDULE_DELAY: "20" } });
  try {
    for (const env of [{ OTEL_SDK_DISABLED: "true" }, { OTEL_TRACES_SAMPLER: "always_off" }]) {
      const parley = await site.start({ env: env as unknown as Record<string, string> });
      expect((await parley.fetch("/version", { headers: headersOf("01") })).status).toBe(200);
      expect((await parley.stop()).code).toBe(0);
    }
    expect(collector.headers).toEqual([]);
  } finally {
    await site.remove();
    await collector.stop();
  }
});
