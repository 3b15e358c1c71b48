import type { RequestsStep } from "../load/requests.ts";
import { registerAccount } from "../support/account.ts";
import type { BenchmarkContext } from "../support/benchmark.ts";
import { type LoadProcess, startLoadProcess } from "../support/load.ts";
import { readCpuMs } from "../support/process-usage.ts";
import { type BenchmarkReport, formatNumber } from "../support/report.ts";
import { medianBy, runRounds } from "../support/rounds.ts";
import { type Server, startBarePostgres, startParley } from "../support/servers.ts";

const CONNECTIONS = 32;
const ROUND_MS = 3_000;
const POOL_SIZE = 10;
const PATH = "/api/v1/me/preferences";
const PREFERENCES = { tone: "friendly", timezone: "Europe/Berlin", language: "en", theme: "dark" };
const RATIO_MIN = 0.7;
/** A limit that no round reaches, so that requests are counted but not rejected. */
const UNREACHED_LIMIT = "1000000000";
const limits = Object.fromEntries(
  ["ADDRESS", "READ"].flatMap((name) => [
    [`RATE_LIMIT_${name}_PER_10S`, UNREACHED_LIMIT],
    [`RATE_LIMIT_${name}_PER_MINUTE`, UNREACHED_LIMIT],
  ]),
);

type Sample = { requestsPerCpuSecond: number; requestsPerSecond: number; p50Ms: number; p99Ms: number };

/** Measures a rate-limited, authenticated GET, compared with a bare server that reads the same row. */
export async function measureRateLimitedGet({ rounds, getPostgres }: BenchmarkContext): Promise<BenchmarkReport> {
  const postgres = await getPostgres();
  const databaseUrl = await postgres.createDatabase("limited");
  const commonEnvironment = { JWT_SECRET: "one secret for both, so that a token is valid for both", LOG_LEVEL: "warn" };
  const servers = {
    parley: await startParley({
      databaseUrl,
      environment: { ...commonEnvironment, RATE_LIMIT_ENABLED: "true", ...limits },
    }),
    unlimited: await startParley({ databaseUrl, environment: commonEnvironment }),
  };
  const { userId, token } = await registerAccount(servers.parley.url);
  const authorization = `Bearer ${token}`;
  await fetch(`${servers.parley.url}${PATH}`, {
    method: "PUT",
    headers: { authorization, "content-type": "application/json" },
    body: JSON.stringify(PREFERENCES),
  });
  const bare = await startBarePostgres({ databaseUrl, poolSize: POOL_SIZE, userId });
  const loads = {
    parley: await openLoad(servers.parley, { authorization }),
    unlimited: await openLoad(servers.unlimited, { authorization }),
    bare: await openLoad(bare, {}),
  };
  const samples = await runRounds(
    {
      parley: () => measureRequests(loads.parley, servers.parley),
      unlimited: () => measureRequests(loads.unlimited, servers.unlimited),
      bare: () => measureRequests(loads.bare, bare),
    },
    rounds,
  );
  for (const load of Object.values(loads)) await load.stop();
  for (const server of [servers.parley, servers.unlimited, bare]) await server.stop();
  const getMedianRequestsPerCpuSecond = (roundSamples: Sample[]) =>
    medianBy(roundSamples, (sample) => sample.requestsPerCpuSecond);
  const commonFields = { unit: "req/CPU s", parley: getMedianRequestsPerCpuSecond(samples.parley) };
  return {
    lines: [
      {
        ...commonFields,
        label: "rate-limited, authenticated GET",
        peer: { name: "bare Bun + postgres", value: getMedianRequestsPerCpuSecond(samples.bare) },
        target: { atLeast: RATIO_MIN },
      },
      {
        ...commonFields,
        label: "  the same",
        peer: { name: "RATE_LIMIT_ENABLED=false", value: getMedianRequestsPerCpuSecond(samples.unlimited) },
      },
    ],
    notes: [
      `limited: GET ${PATH}, ${CONNECTIONS} connections, pool of ${POOL_SIZE}, the same row and the same body`,
      ...Object.entries(samples).map(
        ([name, roundSamples]) =>
          `${name}: ${formatNumber(medianBy(roundSamples, ({ requestsPerSecond }) => requestsPerSecond))} requests/s, ` +
          `${formatNumber(1e6 / getMedianRequestsPerCpuSecond(roundSamples))} µs CPU each, p50 ${formatNumber(medianBy(roundSamples, ({ p50Ms }) => p50Ms))} ms, ` +
          `p99 ${formatNumber(medianBy(roundSamples, ({ p99Ms }) => p99Ms))} ms`,
      ),
    ],
  };
}

async function openLoad({ url }: Server, headers: Record<string, string>): Promise<LoadProcess> {
  const load = startLoadProcess("requests.ts");
  const step: RequestsStep = { step: "open", url, method: "GET", path: PATH, headers, connections: CONNECTIONS };
  await load.runStep(step);
  return load;
}

async function measureRequests(load: LoadProcess, { pid }: Server): Promise<Sample> {
  const cpuBeforeMs = readCpuMs(pid);
  const step: RequestsStep = { step: "run", durationMs: ROUND_MS };
  const { requests = 0, p50Ms = 0, p99Ms = 0, elapsedMs } = await load.runStep(step);
  const cpuMs = readCpuMs(pid) - cpuBeforeMs;
  return {
    requestsPerCpuSecond: (requests / cpuMs) * 1_000,
    requestsPerSecond: (requests / elapsedMs) * 1_000,
    p50Ms,
    p99Ms,
  };
}
