import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { withTransaction } from "../../src/db/client.ts";
import { EXTRA_CONNECTIONS_MAX } from "../../src/db/connect.ts";
import { createId } from "../../src/lib/id.ts";
import { startApp, type TestApp } from "../support/app.ts";

type Sample = { name: string; labels: Record<string, string>; value: number };

let parley: TestApp;
beforeAll(async () => {
  parley = await startApp();
});
afterAll(() => parley.stop());

async function scrapeMetrics(): Promise<{ types: Map<string, string>; samples: Sample[]; text: string }> {
  const text = await (await parley.fetch("/metrics")).text();
  const types = new Map([...text.matchAll(/^# TYPE (\S+) (\S+)$/gm)].map(([, name = "", type = ""]) => [name, type]));
  const samples = text
    .split("\n")
    .filter((line) => line !== "" && !line.startsWith("#"))
    .map((line) => {
      const [, name = "", labels = "", value = ""] = /^([a-z_]+)(?:\{(.*)\})? (\S+)$/.exec(line) ?? [];
      const pairs = [...labels.matchAll(/(\w+)="([^"]*)"/g)].map(([, key = "", text = ""]) => [key, text]);
      return { name, labels: Object.fromEntries(pairs), value: Number(value) };
    });
  return { types, samples, text };
}

/** The metrics in the contract, with their types. */
const contractMetrics: Record<string, string> = {
  parley_build_info: "gauge",
  parley_http_request_duration_seconds: "histogram",
  parley_ws_connections: "gauge",
  parley_ws_frames_total: "counter",
  parley_messages_total: "counter",
  parley_message_commit_duration_seconds: "histogram",
  parley_generations_total: "counter",
  parley_generation_first_token_seconds: "histogram",
  parley_generation_duration_seconds: "histogram",
  parley_ai_tokens_total: "counter",
  parley_ai_failovers_total: "counter",
  parley_webhook_deliveries_total: "counter",
  parley_rate_limited_total: "counter",
  parley_bus_messages_total: "counter",
  gen_ai_client_operation_duration_seconds: "histogram",
  gen_ai_client_token_usage: "histogram",
  gen_ai_client_operation_time_to_first_chunk_seconds: "histogram",
  gen_ai_client_operation_time_per_output_chunk_seconds: "histogram",
  parley_db_pool_connections: "gauge",
  parley_db_pool_wait_seconds: "histogram",
  parley_event_loop_lag_seconds: "histogram",
  process_cpu_seconds_total: "counter",
  process_resident_memory_bytes: "gauge",
  process_start_time_seconds: "gauge",
};

test("/metrics uses the Prometheus text format", async () => {
  const response = await parley.fetch("/metrics");
  expect(response.headers.get("content-type")).toBe("text/plain; version=0.0.4; charset=utf-8");
  expect(response.headers.get("cache-control")).toBe("no-store");
});

test("/metrics exposes every metric in the contract, with its type", async () => {
  const { types } = await scrapeMetrics();
  for (const [name, type] of Object.entries(contractMetrics))
    expect({ name, type: types.get(name) }).toEqual({ name, type });
});

test("/metrics follows Prometheus' naming conventions and reports finite values", async () => {
  await parley.fetch("/version");
  await Bun.sleep(20);
  const { types, samples } = await scrapeMetrics();
  expect(samples.length).toBeGreaterThan(50);
  for (const [name, type] of types) {
    expect(name).toMatch(/^(parley|process|gen_ai)_[a-z_]+$/);
    expect({ name, total: name.endsWith("_total") }).toEqual({ name, total: type === "counter" });
    if (type === "histogram") expect(name).toMatch(/_(seconds|token_usage)$/);
  }
  for (const { name, value } of samples)
    expect({ name, finite: Number.isFinite(value) }).toEqual({ name, finite: true });
});

test("/metrics reports plausible process metrics", async () => {
  const { samples } = await scrapeMetrics();
  const getValue = (name: string) => samples.find((sample) => sample.name === name)?.value ?? Number.NaN;
  expect(getValue("process_resident_memory_bytes")).toBeGreaterThan(10_000_000);
  expect(Math.abs(getValue("process_start_time_seconds") - (Date.now() / 1000 - process.uptime()))).toBeLessThan(60);
  expect(getValue("process_open_fds")).toBeGreaterThan(3);
  expect(getValue("process_max_fds")).toBeGreaterThanOrEqual(getValue("process_open_fds"));
  const sum = getValue("process_cpu_user_seconds_total") + getValue("process_cpu_system_seconds_total");
  expect(getValue("process_cpu_seconds_total")).toBeCloseTo(sum, 0);
});

test("/metrics labels requests by route template, not by path", async () => {
  const { access_token: token } = await parley.register();
  const id = createId();
  await parley.fetch(`/api/v1/conversations/${id}`, { token });
  await parley.fetch(`/nothing/${id}`);
  await parley.fetch("/livez");
  await Bun.sleep(20);
  const { samples, text } = await scrapeMetrics();
  const counts = samples.filter(({ name }) => name === "parley_http_request_duration_seconds_count");
  const findCount = (route: string) => counts.find(({ labels }) => labels.route === route);
  expect(findCount("/api/v1/conversations/:id")).toMatchObject({ labels: { method: "GET", status: "404" }, value: 1 });
  expect(findCount("unmatched")).toMatchObject({ labels: { method: "GET", status: "404" }, value: 1 });
  expect(findCount("/livez")).toBeUndefined();
  expect(text).not.toContain(id);
});

test("/metrics reports the idle, active, waiting and maximum connections of all pools", async () => {
  const { database } = parley;
  const getConnectionCounts = async () => {
    const pool = (await scrapeMetrics()).samples.filter(({ name }) => name === "parley_db_pool_connections");
    return Object.fromEntries(pool.map(({ labels, value }) => [labels.state, value]));
  };
  const initialCounts = await getConnectionCounts();
  expect(Object.keys(initialCounts).sort()).toEqual(["active", "idle", "max", "waiting"]);
  // The Postgres bus, which this app doesn't use, has two of the extra connections.
  expect(initialCounts.max).toBe(10 + EXTRA_CONNECTIONS_MAX - 2);

  const unblocked = Promise.withResolvers<void>();
  const startedTransactions = Array.from({ length: 5 }, () => Promise.withResolvers<void>());
  const transactions = startedTransactions.map(({ resolve }) =>
    withTransaction(database, async () => {
      resolve();
      await unblocked.promise;
    }),
  );
  await Promise.all(startedTransactions.slice(0, 4).map(({ promise }) => promise));
  const busyCounts = await getConnectionCounts();
  expect(busyCounts.active).toBeGreaterThanOrEqual(4);
  expect(busyCounts.waiting).toBe(1);
  unblocked.resolve();
  await Promise.all(transactions);
  expect((await getConnectionCounts()).waiting).toBe(0);
});

describe("/metrics with METRICS_TOKEN", () => {
  let guardedApp: TestApp;
  beforeAll(async () => {
    guardedApp = await startApp({ config: { METRICS_TOKEN: "metrics-token" } });
  });
  afterAll(() => guardedApp.stop());

  test.each([undefined, "Bearer different-token", "Bearer metrics-toke", "Basic metrics-token", "metrics-token"])(
    "rejects the header %p",
    async (authorization) => {
      const response = await guardedApp.fetch("/metrics", {
        headers: authorization === undefined ? {} : { authorization },
      });
      expect(response.status).toBe(401);
      const isBearerToken = authorization?.startsWith("Bearer ") ?? false;
      const challenge = `Bearer realm="parley"${isBearerToken ? ', error="invalid_token"' : ""}`;
      expect(response.headers.get("www-authenticate")).toBe(challenge);
      expect(await response.text()).not.toContain("parley_build_info");
    },
  );

  test("accepts the token", async () => {
    const response = await guardedApp.fetch("/metrics", { token: "metrics-token" });
    expect(response.status).toBe(200);
  });
});
