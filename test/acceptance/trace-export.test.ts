import { expect, setDefaultTimeout, test } from "bun:test";
import { createConversation } from "../support/conversation.ts";
import { startMockProvider } from "../support/mock-provider/server.ts";
import { startCollector } from "../support/trace-collector.ts";
import { waitUntil } from "../support/wait-until.ts";
import { openChat, waitForText } from "./chat.ts";
import { createInstallation, type Parley, TEST_TIMEOUT_MS } from "./installation.ts";

setDefaultTimeout(TEST_TIMEOUT_MS);

const CALLER = { traceId: "0af7651916cd43dd8448eb211c80319c", spanId: "b7ad6b7169203331" };
const createHeaders = (flags: string) => ({ traceparent: `00-${CALLER.traceId}-${CALLER.spanId}-${flags}` });

type SendResponse = { message: { id: string }; reply: { id: string } | null };

/** Returns the number of spans in `/metrics`, by outcome. */
async function countSpans(parley: Parley): Promise<Record<string, number>> {
  const text = await (await parley.fetch("/metrics")).text();
  const matches = text.matchAll(/^parley_trace_spans_total\{outcome="(\w+)"\} (\d+)$/gm);
  return Object.fromEntries([...matches].map(([, outcome, count]) => [outcome, Number(count)]));
}

test("TRACE_CONTEXT=continue continues the caller's trace if the caller sampled it", async () => {
  const collector = startCollector();
  const env = { OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: `${collector.url}/v1/traces`, OTEL_BSP_SCHEDULE_DELAY: "50" };
  const installation = await createInstallation({ env: { ...env, TRACE_CONTEXT: "continue" } });
  try {
    const parley = await installation.start();
    await parley.fetch("/api/v1/models", { headers: createHeaders("00") });
    await parley.fetch("/version", { headers: createHeaders("01") });
    await parley.fetch("/version", { headers: { traceparent: "00-0-0-01" } });
    const [continuedTrace, newTrace] = await collector.waitForSpans(({ name }) => name === "GET /version", 2);
    expect(continuedTrace).toMatchObject({ traceId: CALLER.traceId, parentId: CALLER.spanId, links: [] });
    expect(newTrace?.parentId).toBeNull();
    expect(collector.spans.some(({ name }) => name === "GET /api/v1/models")).toBe(false);

    const { account, conversationId, fetchAnswer } = await openChat(parley);
    const path = `/api/v1/conversations/${conversationId}/messages`;
    const requestAnswer = async (flags: string, pathSuffix = "", json: object = { content: "Hello", reply: true }) => {
      const options = { method: "POST", token: account.access_token, headers: createHeaders(flags), json };
      const { reply, message } = (await (await parley.fetch(path + pathSuffix, options)).json()) as SendResponse;
      const { id } = reply ?? message;
      await waitUntil(async () => (await fetchAnswer(parley, id)).status === "complete");
      return id;
    };
    const answerId = await requestAnswer("00");
    await requestAnswer("00", `/${answerId}/regenerate`, {});
    await requestAnswer("01");
    const answerSpans = await collector.waitForSpans(({ name }) => name === "generate answer");
    expect(answerSpans.map(({ traceId }) => traceId)).toEqual([CALLER.traceId]);
  } finally {
    await installation.remove();
    await collector.stop();
  }
});

test("an answer that continues after kill -9 stays in the request's trace", async () => {
  const collector = startCollector();
  const mockProvider = startMockProvider();
  const installation = await createInstallation({
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
    const firstParley = await installation.start();
    const chat = await openChat(firstParley);
    const answerId = await chat.requestAnswer("compatible/slow");
    await waitForText(chat.socket, answerId, 200);
    await firstParley.kill();
    const secondParley = await installation.start();
    await waitUntil(async () => (await chat.fetchAnswer(secondParley, answerId)).status === "complete", 30_000);
    const [answerSpan] = await collector.waitForSpans(({ name }) => name === "generate answer");
    const [frameSpan] = await collector.waitForSpans(({ name }) => name === "message.send");
    expect(answerSpan).toMatchObject({ traceId: frameSpan?.traceId as string });
    expect(answerSpan?.attributes).toMatchObject({
      "parley.message.id": answerId,
      "parley.generation.owner_number": 2,
    });
    const [chatSpan] = await collector.waitForSpans(({ name }) => name === "chat slow");
    expect(chatSpan?.parentId).toBe(answerSpan?.spanId as string);
  } finally {
    await installation.remove();
    await Promise.all([collector.stop(), mockProvider.stop()]);
  }
});

test("an unresponsive collector doesn't affect requests, and spans that exceed the queue are dropped and counted", async () => {
  const collector = startCollector(() => new Promise<Response>(() => {}));
  const env = { OTEL_EXPORTER_OTLP_ENDPOINT: collector.url, OTEL_BSP_SCHEDULE_DELAY: "50" };
  const installation = await createInstallation({
    env: { ...env, OTEL_BSP_MAX_QUEUE_SIZE: "5", OTEL_EXPORTER_OTLP_TIMEOUT: "60000" },
  });
  try {
    const parley = await installation.start();
    const anna = await parley.register();
    const { id } = await createConversation(parley, anna);
    for (let sent = 0; sent < 20; sent += 1) {
      const json = { content: "Hello", reply: false };
      const response = await parley.fetch(`/api/v1/conversations/${id}/messages`, { token: anna.access_token, json });
      expect(response.status).toBe(201);
    }
    expect((await countSpans(parley)).dropped).toBeGreaterThan(20);
    expect((await countSpans(parley)).exported).toBeUndefined();
    // The shutdown waits only for the last export, which has its own timeout.
    const { code, durationMs } = await parley.stop();
    expect(code).toBe(0);
    expect(durationMs).toBeGreaterThan(1_900);
  } finally {
    await installation.remove();
    await collector.stop();
  }
});

test("spans are sent again after a 503, but counted and logged as failed after a 400", async () => {
  const statuses = [503, 200, 400];
  const collector = startCollector(() => {
    const status = statuses.shift() ?? 200;
    return status === 200 ? null : new Response("secret text from the collector", { status });
  });
  const env = { OTEL_EXPORTER_OTLP_ENDPOINT: collector.url, OTEL_BSP_SCHEDULE_DELAY: "20" };
  const installation = await createInstallation({ env });
  try {
    const parley = await installation.start();
    await parley.fetch("/version");
    await collector.waitForSpans(({ name }) => name === "GET /version");
    await waitUntil(async () => ((await countSpans(parley)).exported ?? 0) >= 1);
    await parley.fetch("/version");
    await waitUntil(async () => (await countSpans(parley)).failed === 1);
    expect(parley.readLog()).toContain("traces could not be sent to the collector");
    expect(parley.readLog()).toContain("HTTP 400");
    expect(parley.readLog()).not.toContain("secret text");
  } finally {
    await installation.remove();
    await collector.stop();
  }
});

test("a collector's redirects aren't followed, and its endless response isn't read", async () => {
  const createEndlessBody = () =>
    new ReadableStream({ pull: (controller) => controller.enqueue(new Uint8Array(65_536)) });
  const paths: string[] = [];
  let shouldRedirect = true;
  const collector = startCollector(({ url }) => {
    paths.push(new URL(url).pathname);
    return shouldRedirect
      ? new Response(null, { status: 307, headers: { location: "/elsewhere" } })
      : new Response(createEndlessBody());
  });
  const env = { OTEL_EXPORTER_OTLP_ENDPOINT: collector.url, OTEL_BSP_SCHEDULE_DELAY: "20" };
  const installation = await createInstallation({ env });
  try {
    const parley = await installation.start();
    await parley.fetch("/version");
    await waitUntil(async () => ((await countSpans(parley)).failed ?? 0) > 0);
    expect(parley.readLog()).toContain("HTTP 307");
    expect(parley.readLog()).toContain("check OTEL_EXPORTER_OTLP_ENDPOINT");
    shouldRedirect = false;
    await parley.fetch("/version");
    await waitUntil(async () => ((await countSpans(parley)).exported ?? 0) > 0);
    expect(new Set(paths)).toEqual(new Set(["/v1/traces"]));
  } finally {
    await installation.remove();
    await collector.stop();
  }
});

test("the last spans are sent during shutdown", async () => {
  const collector = startCollector();
  const env = { OTEL_EXPORTER_OTLP_ENDPOINT: collector.url, OTEL_BSP_SCHEDULE_DELAY: "60000" };
  const installation = await createInstallation({ env });
  try {
    const parley = await installation.start();
    await parley.fetch("/version");
    expect(collector.spans).toEqual([]);
    expect((await parley.stop()).code).toBe(0);
    expect(collector.spans.some(({ name }) => name === "GET /version")).toBe(true);
  } finally {
    await installation.remove();
    await collector.stop();
  }
});

test("OTEL_SDK_DISABLED=true and OTEL_TRACES_SAMPLER=always_off disable traces", async () => {
  const collector = startCollector();
  const installation = await createInstallation({
    env: { OTEL_EXPORTER_OTLP_ENDPOINT: collector.url, OTEL_BSP_SCHEDULE_DELAY: "20" },
  });
  try {
    for (const env of [{ OTEL_SDK_DISABLED: "true" }, { OTEL_TRACES_SAMPLER: "always_off" }]) {
      const parley = await installation.start({ env: env as unknown as Record<string, string> });
      expect((await parley.fetch("/version", { headers: createHeaders("01") })).status).toBe(200);
      expect((await parley.stop()).code).toBe(0);
    }
    expect(collector.headers).toEqual([]);
  } finally {
    await installation.remove();
    await collector.stop();
  }
});
