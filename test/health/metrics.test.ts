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

async function scrape(): Promise<{ types: Map<string, string>; samples: Sample[]; text: string }> {
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

/** The contract's names. A metric with labels shows only its type until something is counted. */
const contract: Record<string, string> = {
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
  parley_db_pool_connections: "gauge",
  parley_db_pool_wait_seconds: "histogram",
  parley_event_loop_lag_seconds: "histogram",
  process_cpu_seconds_total: "counter",
  process_resident_memory_bytes: "gauge",
  process_start_time_seconds: "gauge",
};

test("uses the Prometheus text format", async () => {
  const response = await parley.fetch("/metrics");
  expect(response.headers.get("content-type")).toBe("text/plain; version=0.0.4; charset=utf-8");
  expect(response.headers.get("cache-control")).toBe("no-store");
});

test("exposes every metric of the contract, with its type", async () => {
  const { types } = await scrape();
  for (const [name, type] of Object.entries(contract)) expect({ name, type: types.get(name) }).toEqual({ name, type });
});

test("follows Prometheus' rules for names and values", async () => {
  await parley.fetch("/version");
  await Bun.sleep(20);
  const { types, samples } = await scrape();
  expect(samples.length).toBeGreaterThan(50);
  for (const [name, type] of types) {
    expect(name).toMatch(/^(parley|process)_[a-z_]+$/);
    expect({ name, total: name.endsWith("_total") }).toEqual({ name, total: type === "counter" });
    if (type === "histogram") expect(name).toEndWith("_seconds");
  }
  for (const { name, value } of samples)
    expect({ name, finite: Number.isFinite(value) }).toEqual({ name, finite: true });
});

test("reports plausible process metrics", async () => {
  const { samples } = await scrape();
  const get = (name: string) => samples.find((sample) => sample.name === name)?.value ?? Number.NaN;
  expect(get("process_resident_memory_bytes")).toBeGreaterThan(10_000_000);
  expect(Math.abs(get("process_start_time_seconds") - (Date.now() / 1000 - process.uptime()))).toBeLessThan(60);
  expect(get("process_open_fds")).toBeGreaterThan(3);
  expect(get("process_max_fds")).toBeGreaterThanOrEqual(get("process_open_fds"));
  const sum = get("process_cpu_user_seconds_total") + get("process_cpu_system_seconds_total");
  expect(get("process_cpu_seconds_total")).toBeCloseTo(sum, 0);
});

test("labels requests by route template: no ids, no paths, no invented methods", async () => {
  const { access_token: token } = await parley.register();
  const id = createId();
  await parley.fetch(`/api/v1/conversations/${id}`, { token });
  await parley.fetch(`/nothing/${id}`);
  await parley.fetch("/livez");
  await Bun.sleep(20);
  const { samples, text } = await scrape();
  const counts = samples.filter(({ name }) => name === "parley_http_request_duration_seconds_count");
  const find = (route: string) => counts.find(({ labels }) => labels.route === route);
  expect(find("/api/v1/conversations/:id")).toMatchObject({ labels: { method: "GET", status: "404" }, value: 1 });
  expect(find("unmatched")).toMatchObject({ labels: { method: "GET", status: "404" }, value: 1 });
  expect(find("/livez")).toBeUndefined();
  expect(text).not.toContain(id);
});

test("reports the connections of all pools, the waiting callers and the maximum", async () => {
  const { database } = parley;
  const read = async () => {
    const pool = (await scrape()).samples.filter(({ name }) => name === "parley_db_pool_connections");
    return Object.fromEntries(pool.map(({ labels, value }) => [labels.state, value]));
  };
  const before = await read();
  expect(Object.keys(before).sort()).toEqual(["active", "idle", "max", "waiting"]);
  // No bus over Postgres here, which would hold two more.
  expect(before.max).toBe(10 + EXTRA_CONNECTIONS_MAX - 2);

  const hold = Promise.withResolvers<void>();
  const started = Array.from({ length: 5 }, () => Promise.withResolvers<void>());
  const holding = started.map(({ resolve }) =>
    withTransaction(database, async () => {
      resolve();
      await hold.promise;
    }),
  );
  await Promise.all(started.slice(0, 4).map(({ promise }) => promise));
  const during = await read();
  expect(during.active).toBeGreaterThanOrEqual(4);
  expect(during.waiting).toBe(1);
  hold.resolve();
  await Promise.all(holding);
  expect((await read()).waiting).toBe(0);
});

describe("with METRICS_TOKEN", () => {
  let guarded: TestApp;
  beforeAll(async () => {
    guarded = await startApp({ config: { METRICS_TOKEN: "metrics-token" } });
  });
  afterAll(() => guarded.stop());

  test.each([undefined, "Bearer another-token", "Bearer metrics-toke", "Basic metrics-token", "metrics-token"])(
    "refuses %p",
    async (authorization) => {
      const response = await guarded.fetch("/metrics", {
        headers: authorization === undefined ? {} : { authorization },
      });
      expect(response.status).toBe(401);
      const isTokenSent = authorization?.startsWith("Bearer ") ?? false;
      const challenge = `Bearer realm="parley"${isTokenSent ? ', error="invalid_token"' : ""}`;
      expect(response.headers.get("www-authenticate")).toBe(challenge);
      expect(await response.text()).not.toContain("parley_build_info");
    },
  );

  test("accepts the right token", async () => {
    const response = await guarded.fetch("/metrics", { token: "metrics-token" });
    expect(response.status).toBe(200);
  });
});
