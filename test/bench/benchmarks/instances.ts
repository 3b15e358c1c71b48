import { startRedis } from "../../support/redis.ts";
import type { InstancesStep } from "../load/instances.ts";
import type { LoadTarget } from "../load/session.ts";
import { registerAccount } from "../support/account.ts";
import type { BenchmarkContext } from "../support/benchmark.ts";
import { type LoadProcess, startLoadProcess } from "../support/load.ts";
import type { BenchPostgres } from "../support/postgres.ts";
import { readCpuMs, readProcessTreeCpuMs } from "../support/process-usage.ts";
import { type BenchmarkReport, formatNumber, type Line } from "../support/report.ts";
import { medianBy, runRounds } from "../support/rounds.ts";
import { type Server, startParley, startSocketIo } from "../support/servers.ts";
import { addCleanup } from "../support/temporary.ts";

const CONVERSATIONS = 50;
const IN_FLIGHT = 4;
const CONTENT_CHARS = 100;
const ROUND_MS = 4_000;
const PACE_MS = 3_000;
/** The send rate for latency measurements. It is far below the machine's capacity, so that pushes are not queued. */
const PACE_PER_SECOND = 200;
const SOCKET_IO_POOL_SIZE = 10;
const JWT_SECRET = "the instances of a bench accept each other's tokens";
const busTargets = { redis: { ratio: 1.6, p99Ms: 20 }, postgres: { ratio: 1.4, p99Ms: 60 } };

type Deployment = { name: string; servers: Server[]; load: LoadProcess };
/** CPU shares are fractions of one core. */
type Sample = { acksPerSecond: number; p50Ms: number; p99Ms: number; shares: Record<string, number> };

/** Measures the throughput that a second instance adds, and the latency of pushes between instances. */
export async function measureInstances({ rounds, getPostgres }: BenchmarkContext): Promise<BenchmarkReport> {
  const postgres = await getPostgres();
  const redis = await startRedis();
  addCleanup(redis.stop);
  const findRedisPid = () => redis.findPid() ?? 0;
  const instanceCounts = { one: 1, redis: 2, postgres: 2 };
  const deployments: Record<string, Deployment> = {};
  for (const [name, count] of Object.entries(instanceCounts))
    deployments[name] = await openParleyDeployment(postgres, name, count, name === "redis" ? redis.url : undefined);
  const databaseUrl = await postgres.createDatabase("instances_peer");
  deployments.socketIo = await openSocketIoDeployment(databaseUrl, redis.url);

  const samples = await runRounds(
    Object.fromEntries(
      Object.entries(deployments).map(([name, deployment]) => [
        name,
        () => measureDeployment(deployment, postgres, findRedisPid()),
      ]),
    ) as Record<string, () => Promise<Sample>>,
    rounds,
  );
  for (const { load, servers } of Object.values(deployments)) {
    await load.stop();
    for (const server of servers) await server.stop();
  }
  await redis.stop();
  return {
    lines: (["redis", "postgres"] as const).flatMap((bus) => createLines(bus, samples)),
    notes: [
      `instances: ${CONVERSATIONS} conversations × ${IN_FLIGHT} in flight, each with a watcher on the other instance; ` +
        `pushes at ${PACE_PER_SECOND} messages/s`,
      ...Object.entries(deployments).map(([name, { name: label }]) => describeSamples(label, samples[name] ?? [])),
    ],
  };
}

function createLines(bus: "redis" | "postgres", samples: Record<string, Sample[]>): Line[] {
  const getMedianAcks = (name: string) => medianBy(samples[name] ?? [], ({ acksPerSecond }) => acksPerSecond);
  const getMedianP99 = (name: string) => medianBy(samples[name] ?? [], ({ p99Ms }) => p99Ms);
  const busName = bus === "redis" ? "Redis" : "Postgres";
  const { ratio, p99Ms } = busTargets[bus];
  const sendsLine: Line = {
    label: `two instances over ${busName}`,
    unit: "acks/s",
    parley: getMedianAcks(bus),
    peer: { name: "one instance", value: getMedianAcks("one") },
    target: { atLeast: ratio },
  };
  const pushLine: Line = {
    label: `push on the other instance over ${busName}, p99`,
    unit: "ms",
    parley: getMedianP99(bus),
    target: { upTo: p99Ms },
  };
  if (bus === "postgres") return [sendsLine, pushLine];
  const name = "Socket.IO + Redis adapter";
  return [
    sendsLine,
    {
      label: "  the same",
      unit: "acks/s",
      parley: getMedianAcks(bus),
      peer: { name, value: getMedianAcks("socketIo") },
    },
    { ...pushLine, peer: { name, value: getMedianP99("socketIo") } },
  ];
}

async function openParleyDeployment(
  postgres: BenchPostgres,
  name: string,
  count: number,
  redisUrl?: string,
): Promise<Deployment> {
  const databaseUrl = await postgres.createDatabase(`instances_${name}`);
  const environment = { JWT_SECRET, ...(redisUrl && { REDIS_URL: redisUrl }) };
  const servers: Server[] = [];
  for (let n = 0; n < count; n += 1) servers.push(await startParley({ databaseUrl, environment }));
  const { token, createConversation } = await registerAccount(servers[0]?.url ?? "");
  const conversations: string[] = [];
  for (let n = 0; n < CONVERSATIONS; n += 1) conversations.push(await createConversation());
  const targets = servers.map(({ url }) => ({ protocol: "parley", url, token }) satisfies LoadTarget);
  const label = count === 1 ? "one Parley" : `two Parleys over ${redisUrl ? "Redis" : "Postgres"}`;
  return { name: label, servers, load: await openLoad(targets, conversations) };
}

async function openSocketIoDeployment(databaseUrl: string, redisUrl: string): Promise<Deployment> {
  const servers: Server[] = [];
  for (let n = 0; n < 2; n += 1) servers.push(await startSocketIo(databaseUrl, SOCKET_IO_POOL_SIZE, redisUrl));
  const targets = servers.map(({ url }) => ({ protocol: "socketIo", url, token: "" }) satisfies LoadTarget);
  const conversations = Array.from({ length: CONVERSATIONS }, () => Bun.randomUUIDv7());
  return { name: "two Socket.IO servers over Redis", servers, load: await openLoad(targets, conversations) };
}

async function openLoad(targets: LoadTarget[], conversations: string[]): Promise<LoadProcess> {
  const load = startLoadProcess("instances.ts");
  const step: InstancesStep = {
    step: "open",
    targets,
    conversations,
    inFlight: IN_FLIGHT,
    contentChars: CONTENT_CHARS,
  };
  await load.runStep(step);
  return load;
}

async function measureDeployment(
  { name, load, servers }: Deployment,
  postgres: BenchPostgres,
  redisPid: number,
): Promise<Sample> {
  await postgres.checkpoint();
  const readCpuTimes = (): Record<string, number> => ({
    ...Object.fromEntries(servers.map(({ pid }, n) => [`server ${n + 1}`, readCpuMs(pid)])),
    Postgres: readProcessTreeCpuMs(postgres.pid),
    Redis: readCpuMs(redisPid),
  });
  const cpuBeforeMs = readCpuTimes();
  const runStep: InstancesStep = { step: "run", durationMs: ROUND_MS };
  const { acks = 0, elapsedMs, cpuMs, missing = 0 } = await load.runStep(runStep);
  const cpuAfterMs = readCpuTimes();
  const paceStep: InstancesStep = { step: "pace", durationMs: PACE_MS, perSecond: PACE_PER_SECOND };
  const latencyResult = await load.runStep(paceStep);
  if (missing > 0 || (latencyResult.missing ?? 0) > 0)
    throw new Error(`${name}: ${missing} and ${latencyResult.missing} pushes never arrived.`);
  const shares = Object.fromEntries(
    Object.entries(cpuAfterMs).map(([part, ms]) => [part, (ms - (cpuBeforeMs[part] ?? 0)) / elapsedMs]),
  );
  return {
    acksPerSecond: (acks / elapsedMs) * 1000,
    p50Ms: latencyResult.p50Ms ?? Number.NaN,
    p99Ms: latencyResult.p99Ms ?? Number.NaN,
    shares: { ...shares, load: cpuMs / elapsedMs },
  };
}

function describeSamples(name: string, samples: Sample[]): string {
  const cpuShares = Object.keys(samples[0]?.shares ?? {}).map(
    (part) => `${part} ${formatNumber(medianBy(samples, ({ shares }) => shares[part] ?? 0) * 100)} %`,
  );
  const p50Ms = formatNumber(medianBy(samples, (sample) => sample.p50Ms));
  return `${name}: ${cpuShares.join(", ")} of a core; push p50 ${p50Ms} ms`;
}
