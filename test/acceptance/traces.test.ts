import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { createConversation } from "../support/conversation.ts";
import { startMcpServer } from "../support/mcp-server.ts";
import { type MockProvider, startMockProvider } from "../support/mock-provider/server.ts";
import { openSocket } from "../support/socket.ts";
import { type ReceivedSpan, startCollector } from "../support/trace-collector.ts";
import { waitUntil } from "../support/wait-until.ts";
import { createInstallation, type Installation, type Parley, TEST_TIMEOUT_MS } from "./installation.ts";

setDefaultTimeout(TEST_TIMEOUT_MS);

const QUESTION = "Which secret recipe does Anna know?";
const ANSWER = "A soup of nettles.";
const COLLECTOR_TOKEN = "collector-token";
const CALLER = { traceId: "0af7651916cd43dd8448eb211c80319c", spanId: "b7ad6b7169203331" };
const traceparent = `00-${CALLER.traceId}-${CALLER.spanId}-01`;

let collector: ReturnType<typeof startCollector>;
let mockProvider: MockProvider;
let receiver: Bun.Server<undefined>;
let mcpServer: ReturnType<typeof startMcpServer>;
let installation: Installation;
let parley: Parley;
const toolHeaders: (string | null)[] = [];
const webhookHeaders: Headers[] = [];

beforeAll(async () => {
  collector = startCollector();
  mockProvider = startMockProvider();
  receiver = Bun.serve({
    port: 0,
    hostname: "127.0.0.1",
    fetch(request) {
      webhookHeaders.push(request.headers);
      return new Response(null, { status: 503 });
    },
  });
  mcpServer = startMcpServer({
    revision: "2026",
    tools: [{ name: "look", run: () => ({ content: [{ type: "text", text: "Found." }] }) }],
    intercept(request) {
      if (request.headers.get("mcp-method") === "tools/call") toolHeaders.push(request.headers.get("traceparent"));
      return null;
    },
  });
  installation = await createInstallation({
    env: {
      OTEL_EXPORTER_OTLP_ENDPOINT: collector.url,
      OTEL_EXPORTER_OTLP_HEADERS: `authorization=Bearer%20${COLLECTOR_TOKEN}`,
      OTEL_RESOURCE_ATTRIBUTES: "deployment.environment.name=test,service.name=other",
      OTEL_SERVICE_NAME: "chat",
      OTEL_BSP_SCHEDULE_DELAY: "50",
      COMPATIBLE_BASE_URL: mockProvider.openaiUrl,
      COMPATIBLE_API_KEY: "provider-key",
      AI_MODELS: "compatible/broken,compatible/good",
      AI_MAX_RETRIES: "0",
      MCP_SERVERS: `wiki=${mcpServer.url}`,
      WEBHOOK_ALLOW_PRIVATE_NETWORKS: "true",
      LOG_LEVEL: "debug",
    },
  });
  parley = await installation.start();
  mockProvider.script("broken", { fault: "status", status: 503, faultCount: 1_000 });
});
afterAll(async () => {
  await installation?.remove();
  await Promise.all([collector?.stop(), mockProvider?.stop(), mcpServer?.stop(), receiver?.stop(true)]);
});

const isNamed = (name: string) => (span: ReceivedSpan) => span.name === name;
const isNamedInTrace = (traceId: string, name: string) => (span: ReceivedSpan) =>
  span.traceId === traceId && span.name === name;

/** Returns the only span with this name in a trace. */
async function findOnlySpan(traceId: string, name: string): Promise<ReceivedSpan> {
  const spans = await collector.waitForSpans(isNamedInTrace(traceId, name));
  expect({ name, count: spans.length }).toEqual({ name, count: 1 });
  return spans[0] as ReceivedSpan;
}

describe("a message's trace", () => {
  let root: ReceivedSpan;
  let email: string;
  let token: string;

  beforeAll(async () => {
    const anna = await parley.register();
    ({ email } = anna.user);
    token = anna.access_token;
    const { id } = await createConversation(parley, anna, [], { title: "Soup", tools: ["wiki_look"] });
    await parley.fetch("/api/v1/webhooks", {
      token,
      json: { url: `http://127.0.0.1:${receiver.port}/key-in-the-path`, events: ["message.completed"] },
    });
    mockProvider.script("good", { toolCalls: [{ name: "wiki_look", arguments: '{"q":"nettles"}' }] }, { text: ANSWER });
    const response = await parley.fetch(`/api/v1/conversations/${id}/messages?before=x`, {
      token,
      headers: { accept: "text/event-stream", traceparent, "x-request-id": "annas-request" },
      json: { content: QUESTION, reply: true },
    });
    expect(await response.text()).toContain("message.completed");
    const [requestSpan] = await collector.waitForSpans(
      ({ attributes }) => attributes["parley.request_id"] === "annas-request",
    );
    root = requestSpan as ReceivedSpan;
  });

  test("starts with a span named after the route, which links to the caller's trace", () => {
    expect(root).toMatchObject({
      name: "POST /api/v1/conversations/:id/messages",
      kind: "SERVER",
      parentId: null,
      status: "UNSET",
      links: [CALLER],
    });
    expect(root.attributes).toEqual({
      "http.request.method": "POST",
      "url.scheme": "http",
      "http.route": "/api/v1/conversations/:id/messages",
      "http.response.status_code": 200,
      "parley.request_id": "annas-request",
    });
    expect(root.resource).toMatchObject({ "service.name": "chat", "deployment.environment.name": "test" });
    expect(root.resource["service.version"]).toBeString();
  });

  test("has spans for the commit, the answer, each model attempt and each tool call", async () => {
    const storeSpan = await findOnlySpan(root.traceId, "store message");
    expect(storeSpan.parentId).toBe(root.spanId);
    const commitSpan = await findOnlySpan(root.traceId, "commit messages");
    expect(commitSpan.parentId).toBe(storeSpan.spanId);
    const answerSpan = await findOnlySpan(root.traceId, "generate answer");
    expect(answerSpan.parentId).toBe(storeSpan.spanId);
    expect(answerSpan.attributes).toMatchObject({ "parley.generation.outcome": "complete" });
    const conversationId = answerSpan.attributes["gen_ai.conversation.id"];

    // In each step, the first model fails, and the second model takes over.
    const failedSpans = await collector.waitForSpans(isNamedInTrace(root.traceId, "chat broken"), 2);
    const succeededSpans = await collector.waitForSpans(isNamedInTrace(root.traceId, "chat good"), 2);
    for (const span of [...failedSpans, ...succeededSpans]) {
      expect(span).toMatchObject({ kind: "CLIENT", parentId: answerSpan.spanId });
      expect(span.attributes).toMatchObject({
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "compatible",
        "gen_ai.conversation.id": conversationId,
      });
    }
    expect(failedSpans[0]).toMatchObject({ status: "ERROR", attributes: { "error.type": "provider_unavailable" } });
    expect(failedSpans[0]?.events).toEqual([]);
    const reasons = succeededSpans.map(({ attributes }) => attributes["gen_ai.response.finish_reasons"]);
    expect(reasons).toEqual([["tool_calls"], ["stop"]]);
    expect(succeededSpans[1]).toMatchObject({ status: "UNSET", events: ["gen_ai.first_chunk"] });
    expect(succeededSpans[1]?.attributes["gen_ai.usage.output_tokens"]).toBeGreaterThan(0);
    expect(succeededSpans[1]?.attributes["gen_ai.usage.input_tokens"]).toBeGreaterThan(0);

    const toolSpan = await findOnlySpan(root.traceId, "execute_tool wiki_look");
    expect(toolSpan.parentId).toBe(answerSpan.spanId);
    expect(toolHeaders).toEqual([`00-${root.traceId}-${toolSpan.spanId}-01`]);
  });

  test("has spans for the request's SQL statements, named after their summaries", async () => {
    const statements = (await collector.waitForSpans(({ traceId }) => traceId === root.traceId)).filter(
      ({ attributes }) => attributes["db.system.name"] === "postgresql",
    );
    expect(statements.length).toBeGreaterThan(2);
    for (const { name } of statements)
      expect(name).toMatch(/^(transaction|statement|[A-Z]+( (?!from|count|unnest)[a-z_]+)?)$/);
    const ids = new Set(collector.spans.filter(({ traceId }) => traceId === root.traceId).map(({ spanId }) => spanId));
    for (const { parentId } of statements) expect(ids).toContain(parentId as string);
  });

  test("isn't propagated to model providers or webhooks", async () => {
    const [delivery] = await collector.waitForSpans(isNamed("deliver webhook"));
    expect(delivery).toMatchObject({ kind: "CLIENT", parentId: null, status: "ERROR" });
    expect(delivery?.attributes).toMatchObject({ "http.response.status_code": 503, "server.address": "127.0.0.1" });
    expect(delivery?.traceId).not.toBe(root.traceId);
    expect(webhookHeaders.length).toBeGreaterThan(0);
    for (const headers of webhookHeaders) expect(headers.has("traceparent")).toBe(false);
    expect(mockProvider.requests.length).toBeGreaterThan(0);
    for (const { headers } of mockProvider.requests) expect(JSON.stringify(headers)).not.toContain(root.traceId);
  });

  test("is identified in the log lines of the request and the answer", async () => {
    const listLines = () =>
      parley
        .readLog()
        .split("\n")
        .filter((line) => line.includes(root.traceId));
    await waitUntil(() => listLines().some((line) => line.includes('"msg":"request"')));
    const request = listLines()
      .map((line) => JSON.parse(line))
      .find(({ msg }) => msg === "request");
    expect(request).toMatchObject({ request_id: "annas-request", span_id: root.spanId });
    expect(listLines().some((line) => line.includes("provider_unavailable"))).toBe(true);
  });

  test("contains no content, email addresses or secrets", async () => {
    expect(collector.bodies.length).toBeGreaterThan(0);
    const exportedText = Buffer.concat(collector.bodies).toString("latin1");
    expect(exportedText).toContain("gen_ai.provider.name");
    for (const secret of [QUESTION, ANSWER, "nettles", "Found.", email, token, "provider-key", "key-in-the-path"])
      expect(exportedText).not.toContain(secret);
    expect(exportedText).not.toContain("before=x");
    for (const headers of collector.headers) expect(headers.get("authorization")).toBe(`Bearer ${COLLECTOR_TOKEN}`);
    expect(installation.readLog()).not.toContain(COLLECTOR_TOKEN);
  });
});

test("each frame except a ping has its own trace, which links to the upgrade request's trace", async () => {
  const anna = await parley.register();
  const { id } = await createConversation(parley, anna);
  const socket = await openSocket(parley.url, { token: anna.access_token });
  socket.send({ type: "ping" });
  await socket.request({ type: "subscribe", conversation_id: crypto.randomUUID() });
  const client_message_id = crypto.randomUUID();
  await socket.request({ type: "message.send", conversation_id: id, client_message_id, content: "Hi", reply: false });
  await socket.close();
  const [frameSpan] = await collector.waitForSpans(isNamed("message.send"));
  expect(frameSpan).toMatchObject({ kind: "SERVER", parentId: null, status: "UNSET" });
  const storeSpan = await findOnlySpan(frameSpan?.traceId ?? "", "store message");
  expect(storeSpan.parentId).toBe(frameSpan?.spanId as string);
  const [upgradeSpan] = await collector.waitForSpans(isNamed("GET /realtime"));
  expect(upgradeSpan?.attributes["http.response.status_code"]).toBe(101);
  expect(frameSpan?.links).toEqual([
    { traceId: upgradeSpan?.traceId as string, spanId: upgradeSpan?.spanId as string },
  ]);
  const [rejectedSpan] = await collector.waitForSpans(isNamed("subscribe"));
  expect(rejectedSpan).toMatchObject({ status: "UNSET", attributes: { "error.type": "not_found" } });
  expect(collector.spans.some(isNamed("ping"))).toBe(false);
});

test("a completion's spans are children of its /v1 request", async () => {
  const anna = await parley.register();
  mockProvider.script("good", { text: ANSWER });
  const response = await parley.fetch("/v1/chat/completions", {
    token: anna.access_token,
    json: { model: "compatible/good", messages: [{ role: "user", content: QUESTION }] },
  });
  expect(response.status).toBe(200);
  const [requestSpan] = await collector.waitForSpans(isNamed("POST /v1/chat/completions"));
  const answerSpan = await findOnlySpan(requestSpan?.traceId ?? "", "generate answer");
  expect(answerSpan.parentId).toBe(requestSpan?.spanId as string);
  const chatSpan = await findOnlySpan(requestSpan?.traceId ?? "", "chat good");
  expect(chatSpan.parentId).toBe(answerSpan.spanId);
});

test("traces of unknown routes don't contain the path, and monitoring requests aren't traced", async () => {
  await parley.fetch("/nowhere/secret-in-a-path");
  await parley.fetch("/livez");
  await parley.fetch("/metrics");
  const [unknownRouteSpan] = await collector.waitForSpans(
    ({ attributes }) => attributes["http.response.status_code"] === 404 && attributes["http.route"] === undefined,
  );
  expect(unknownRouteSpan?.name).toBe("GET");
  expect(collector.spans.some(({ name }) => /livez|metrics/.test(name))).toBe(false);
  expect(Buffer.concat(collector.bodies).toString("latin1")).not.toContain("secret-in-a-path");
});
