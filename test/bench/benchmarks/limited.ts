import type { RequestsStep } from "../load/requests.ts";
import { register } from "../support/account.ts";
import type { BenchmarkContext } from "../support/benchmark.ts";
import { type Load, startLoad } from "../support/load.ts";
import { readCpuMs } from "../support/process-usage.ts";
import { type BenchmarkReport, formatNumber } from "../support/report.ts";
import { medianOf, runRounds } from "../support/rounds.ts";
import { type Server, startBarePostgres, startParley } from "../support/servers.ts";

const CONNECTIONS = 32;
const ROUND_MS = 3_000;
const POOL_SIZE = 10;
const PATH = "/api/v1/me/preferences";
const PREFERENCES = { tone: "friendly", timezone: "Europe/Berlin", language: "en", theme: "dark" };
const RATIO_MIN = 0.7;
/** Limits that no round reaches, so that requests are counted but not refused. */
const UNREACHED_LIMIT = "1000000000";
const limits = Object.fromEntries(
  ["ADDRESS", "READ"].flatMap((name) => [
    [`RATE_LIMIT_${name}_PER_10S`, UNREACHED_LIMIT],
    [`RATE_LIMIT_${name}_PER_MINUTE`, UNREACHED_LIMIT],
  ]),
);

type Sample = { perCpuSecond: number; perSecond: number; p50Ms: number; p99Ms: number };

/** Measures a rate-limited, authenticated GET, compared with a bare server that reads the same row. */
export async function measureRateLimitedGet({ rounds, getPostgres }: BenchmarkContext): Promise<BenchmarkReport> {
  const postgres = await getPostgres();
  const databaseUrl = await postgres.createDatabase("limited");
  const common = { JWT_SECRET: "one secret for both, so that a token is valid for both", LOG_LEVEL: "warn" };
  const servers = {
    parley: await startParley({ databaseUrl, environment: { ...common, RATE_LIMIT_ENABLED: "true", ...limits } }),
    unlimited: await startParley({ databaseUrl, environment: common }),
  };
  const { userId, token } = await register(servers.parley.url);
  const authorization = `Bearer ${token}`;
  await fetch(`${servers.parley.url}${PATH}`, {
    method: "PUT",
    headers: { authorization, "content-type": "application/json" },
    body: JSON.stringify(PREFERENCES),
  });
  const bare = await startBarePostgres({ databaseUrl, poolSize: POOL_SIZE, userId });
  const loads = {
    parley: await open(servers.parley, { authorization }),
    unlimited: await open(servers.unlimited, { authorization }),
    bare: await open(bare, {}),
  };
  const samples = await runRounds(
    {
      parley: () => measure(loads.parley, servers.parley),
      unlimited: () => measure(loads.unlimited, servers.unlimited),
      bare: () => measure(loads.bare, bare),
    },
    rounds,
  );
  for (const load of Object.values(loads)) await load.stop();
  for (const server of [servers.parley, servers.unlimited, bare]) await server.stop();
  const perCpuSecond = (samplesPerRound: Sample[]) => medianOf(samplesPerRound, (sample) => sample.perCpuSecond);
  const line = { unit: "req/CPU s", parley: perCpuSecond(samples.parley) };
  return {
    lines: [
      {
        ...line,
        what: "rate-limited, authenticated GET",
        peer: { name: "bare Bun + postgres", value: perCpuSecond(samples.bare) },
        target: { atLeast: RATIO_MIN },
      },
      {
        ...line,
        what: "  the same",
        peer: { name: "RATE_LIMIT_ENABLED=false", value: perCpuSecond(samples.unlimited) },
      },
    ],
    notes: [
      `limited: GET ${PATH}, ${CONNECTIONS} connections, pool of ${POOL_SIZE}, the same row and the same body`,
      ...Object.entries(samples).map(
        ([name, samplesPerRound]) =>
          `${name}: ${formatNumber(medianOf(samplesPerRound, ({ perSecond }) => perSecond))} requests/s, ` +
          `${formatNumber(1e6 / perCpuSecond(samplesPerRound))} µs CPU each, p50 ${formatNumber(medianOf(samplesPerRound, ({ p50Ms }) => p50Ms))} ms, ` +
          `p99 ${formatNumber(medianOf(samplesPerRound, ({ p99Ms }) => p99Ms))} ms`,
      ),
    ],
  };
}

async function open({ url }: Server, headers: Record<string, string>): Promise<Load> {
  const load = startLoad("requests.ts");
  const step: RequestsStep = { step: "open", url, method: "GET", path: PATH, headers, connections: CONNECTIONS };
  await load.runStep(step);
  return load;
}

async function measure(load: Load, { pid }: Server): Promise<Sample> {
  const cpuBefore = readCpuMs(pid);
  const step: RequestsStep = { step: "run", durationMs: ROUND_MS };
  const { requests = 0, p50Ms = 0, p99Ms = 0, elapsedMs } = await load.runStep(step);
  const cpuMs = readCpuMs(pid) - cpuBefore;
  return { perCpuSecond: (requests / cpuMs) * 1_000, perSecond: (requests / elapsedMs) * 1_000, p50Ms, p99Ms };
}
