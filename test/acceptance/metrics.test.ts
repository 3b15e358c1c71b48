import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { findProgram } from "../deploy/programs.ts";
import { runProgram } from "../deploy/run-program.ts";
import { createConversation } from "../support/conversation.ts";
import { type MockProvider, startMockProvider } from "../support/mock-provider/server.ts";
import { openSocket } from "../support/socket.ts";
import { waitUntil } from "../support/wait-until.ts";
import { openSubscribedSocket } from "./chat.ts";
import { startDatabaseServer } from "./database-server.ts";
import { createInstallation, type Installation, type Parley, TEST_TIMEOUT_MS } from "./installation.ts";

setDefaultTimeout(TEST_TIMEOUT_MS);

const TOKEN = "token-for-metrics";

let server: Awaited<ReturnType<typeof startDatabaseServer>>;
let mockProvider: MockProvider;
let receiver: Bun.Server<undefined>;
let installation: Installation;
let parley: Parley;
let otherInstance: Parley;
let metricsText: string;

const fetchMetrics = async (): Promise<string> =>
  (await parley.fetch("/metrics", { headers: { authorization: `Bearer ${TOKEN}` } })).text();

/** Returns the value of the first series that starts with `series`, or NaN if there is none. */
const parseMetric = (series: string): number =>
  Number(
    metricsText
      .split("\n")
      .find((line) => line.startsWith(series))
      ?.split(" ")
      .at(-1) ?? Number.NaN,
  );

beforeAll(async () => {
  server = await startDatabaseServer();
  mockProvider = startMockProvider();
  receiver = Bun.serve({ port: 0, hostname: "127.0.0.1", fetch: () => new Response() });
  installation = await createInstallation({
    env: {
      DATABASE_URL: await server.createDatabase(),
      METRICS_TOKEN: TOKEN,
      COMPATIBLE_BASE_URL: mockProvider.openaiUrl,
      AI_MODELS: "compatible/broken,compatible/good",
      AI_MAX_RETRIES: "0",
      AI_PRICES: "compatible/good=1/2",
      WEBHOOK_ALLOW_PRIVATE_NETWORKS: "true",
    },
  });
  parley = await installation.start();
  otherInstance = await installation.start();
  mockProvider.script("broken", { fault: "status", status: 503, faultCount: 1_000 });
  mockProvider.script("good", { pieces: ["One ", "two ", "three."], pieceDelayMs: 30 });
  await generateTraffic();
  await waitUntil(async () => {
    metricsText = await fetchMetrics();
    return (
      parseMetric('parley_webhook_deliveries_total{outcome="delivered"}') > 0 &&
      parseMetric("parley_event_loop_lag_seconds_count") > 0
    );
  });
});
afterAll(async () => {
  await installation?.remove();
  await Promise.all([mockProvider?.stop(), receiver?.stop(true), server?.stop()]);
});

/** Generates traffic for each documented metric. */
async function generateTraffic(): Promise<void> {
  const anna = await parley.register();
  const token = anna.access_token;
  const { id } = await createConversation(parley, anna);
  const json = { url: `http://127.0.0.1:${receiver.port}/`, events: ["message.completed"] };
  await parley.fetch("/api/v1/webhooks", { token, json });
  const otherSocket = await openSubscribedSocket(otherInstance, anna, id);
  const socket = await openSubscribedSocket(parley, anna, id);
  const client_message_id = crypto.randomUUID();
  await socket.request({ type: "message.send", conversation_id: id, client_message_id, content: "Hello", reply: true });
  await otherSocket.waitFor(({ type }) => type === "message.completed", 20_000);
  await parley.fetch(`/not-a-route/${crypto.randomUUID()}`);
  for (let attempt = 0; attempt < 15; attempt += 1)
    await parley.fetch("/api/v1/auth/login", { json: { email: anna.user.email, password: "wrong password" } });
  await openSocket(parley.url, { token });
}

test("traffic changes every documented metric", () => {
  const model = 'model="compatible/good"';
  const expectedSeries = [
    "parley_build_info{",
    'parley_http_request_duration_seconds_count{method="POST",route="/api/v1/auth/login",status="401"}',
    "parley_ws_connections",
    'parley_ws_frames_total{direction="in",type="message.send"}',
    'parley_ws_frames_total{direction="out",type="ack"}',
    'parley_messages_total{role="user"}',
    'parley_messages_total{role="assistant"}',
    "parley_message_commit_duration_seconds_count",
    `parley_generations_total{${model},outcome="complete"}`,
    `parley_generation_first_token_seconds_count{${model}}`,
    `parley_generation_duration_seconds_sum{${model}}`,
    `parley_ai_tokens_total{${model},kind="input"}`,
    `parley_ai_tokens_total{${model},kind="output"}`,
    `parley_ai_cost_usd_total{${model}}`,
    'parley_ai_failovers_total{from="compatible/broken",to="compatible/good",reason="provider_unavailable"}',
    'parley_webhook_deliveries_total{outcome="delivered"}',
    'parley_db_pool_connections{state="max"}',
    'parley_rate_limited_total{limit="login"}',
    'parley_bus_messages_total{direction="out"}',
    "parley_event_loop_lag_seconds_count",
    "process_cpu_seconds_total",
    "process_resident_memory_bytes",
    "process_open_fds",
  ];
  for (const series of expectedSeries)
    expect({ series, isPositive: parseMetric(series) > 0 }).toEqual({ series, isPositive: true });
  expect(parseMetric("parley_ws_connections")).toBe(2);
});

test("model requests are measured under OpenTelemetry's metric names", () => {
  const formatLabels = (name: string) =>
    `gen_ai_operation_name="chat",gen_ai_provider_name="compatible",gen_ai_request_model="${name}"`;
  const durationMetric = "gen_ai_client_operation_duration_seconds";
  expect(parseMetric(`${durationMetric}_count{${formatLabels("good")}}`)).toBe(1);
  expect(parseMetric(`${durationMetric}_count{${formatLabels("broken")},error_type="provider_unavailable"}`)).toBe(1);
  expect(parseMetric(`gen_ai_client_token_usage_sum{${formatLabels("good")},gen_ai_token_type="output"}`)).toBe(3);
  expect(parseMetric(`gen_ai_client_operation_time_to_first_chunk_seconds_count{${formatLabels("good")}}`)).toBe(1);
  expect(parseMetric(`gen_ai_client_operation_time_per_output_chunk_seconds_count{${formatLabels("good")}}`)).toBe(2);
  const bounds = [
    ...metricsText.matchAll(/^gen_ai_client_operation_duration_seconds_bucket\{le="([^"]+)",[^}]*error_type/gm),
  ];
  expect(bounds.map(([, bound]) => bound)).toEqual(
    "0.01 0.02 0.04 0.08 0.16 0.32 0.64 1.28 2.56 5.12 10.24 20.48 40.96 81.92 +Inf".split(" "),
  );
});

test("labels contain no ids, unknown paths or email addresses", () => {
  const labels = [...metricsText.matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)].filter(([, name]) => name !== "le");
  expect(labels.length).toBeGreaterThan(100);
  for (const [, name, value = ""] of labels) {
    expect({ name, value }).not.toMatchObject({ value: expect.stringMatching(/[\da-f]{8}-[\da-f]{4}-|@|not-a-route/) });
  }
  expect(parseMetric('parley_http_request_duration_seconds_count{method="GET",route="unmatched",status="404"}')).toBe(
    1,
  );
});

test("promtool finds no problems in the metrics", async () => {
  const path = join(installation.directory, "metrics.txt");
  writeFileSync(path, metricsText);
  const checkMetrics = (file: string) =>
    runProgram(["sh", "-c", `"$0" check metrics <"$1"`, findProgram("promtool"), file]);
  expect(await checkMetrics(path)).toEqual({ code: 0, output: "" });
  writeFileSync(path, metricsText.replace("# HELP parley_ws_connections Open WebSocket connections.\n", ""));
  expect((await checkMetrics(path)).output).toContain("no help text");
});
