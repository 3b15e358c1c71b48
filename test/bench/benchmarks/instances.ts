import { startRedis } from "../../support/redis.ts";
import type { InstancesStep } from "../load/instances.ts";
import type { LoadTarget } from "../load/session.ts";
import { register } from "../support/account.ts";
import type { BenchmarkContext } from "../support/benchmark.ts";
import { type Load, startLoad } from "../support/load.ts";
import type { BenchPostgres } from "../support/postgres.ts";
import { readCpuMs, readProcessTreeCpuMs } from "../support/process-usage.ts";
import { type BenchmarkReport, formatNumber, type Line } from "../support/report.ts";
import { medianOf, runRounds } from "../support/rounds.ts";
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
const targets = { redis: { ratio: 1.6, p99Ms: 20 }, postgres: { ratio: 1.4, p99Ms: 60 } };

type Deployment = { name: string; servers: Server[]; load: Load };
/** CPU shares are fractions of one core. */
type Sample = { acksPerSecond: number; p50Ms: number; p99Ms: number; shares: Record<string, number> };

/** Measures the throughput that a second instance adds, and the latency of pushes between instances. */
export async function measureInstances({ rounds, getPostgres }: BenchmarkContext): Promise<BenchmarkReport> {
  const postgres = await getPostgres();
  const redis = await startRedis();
  addCleanup(redis.stop);
  const redisPid = () => redis.findPid() ?? 0;
  const instanceCounts = { one: 1, redis: 2, postgres: 2 };
  const deployments: Record<string, Deployment> = {};
  for (const [name, count] of Object.entries(instanceCounts))
    deployments[name] = await openParley(postgres, name, count, name === "redis" ? redis.url : undefined);
  const databaseUrl = await postgres.createDatabase("instances_peer");
  deployments.socketIo = await openSocketIo(databaseUrl, redis.url);

  const samples = await runRounds(
    Object.fromEntries(
      Object.entries(deployments).map(([name, deployment]) => [name, () => measure(deployment, postgres, redisPid())]),
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
      ...Object.entries(deployments).map(([name, { name: label }]) => describe(label, samples[name] ?? [])),
    ],
  };
}

function createLines(bus: "redis" | "postgres", samples: Record<string, Sample[]>): Line[] {
  const medianAcks = (name: string) => medianOf(samples[name] ?? [], ({ acksPerSecond }) => acksPerSecond);
  const medianP99 = (name: string) => medianOf(samples[name] ?? [], ({ p99Ms }) => p99Ms);
  const busName = bus === "redis" ? "Redis" : "Postgres";
  const { ratio, p99Ms } = targets[bus];
  const sends: Line = {
    what: `two instances over ${busName}`,
    unit: "acks/s",
    parley: medianAcks(bus),
    peer: { name: "one instance", value: medianAcks("one") },
    target: { atLeast: ratio },
  };
  const push: Line = {
    what: `push at the other instance over ${busName}, p99`,
    unit: "ms",
    parley: medianP99(bus),
    target: { upTo: p99Ms },
  };
  if (bus === "postgres") return [sends, push];
  const name = "Socket.IO + Redis adapter";
  return [
    sends,
    {
      what: "  the same",
      unit: "acks/s",
      parley: medianAcks(bus),
      peer: { name, value: medianAcks("socketIo") },
    },
    { ...push, peer: { name, value: medianP99("socketIo") } },
  ];
}

async function openParley(
  postgres: BenchPostgres,
  name: string,
  count: number,
  redisUrl?: string,
): Promise<Deployment> {
  const databaseUrl = await postgres.createDatabase(`instances_${name}`);
  const environment = { JWT_SECRET, ...(redisUrl && { REDIS_URL: redisUrl }) };
  const servers: Server[] = [];
  for (let n = 0; n < count; n += 1) servers.push(await startParley({ databaseUrl, environment }));
  const { token, createConversation } = await register(servers[0]?.url ?? "");
  const conversations: string[] = [];
  for (let n = 0; n < CONVERSATIONS; n += 1) conversations.push(await createConversation());
  const targets = servers.map(({ url }) => ({ protocol: "parley", url, token }) satisfies LoadTarget);
  const label = count === 1 ? "one Parley" : `two Parleys over ${redisUrl ? "Redis" : "Postgres"}`;
  return { name: label, servers, load: await openLoad(targets, conversations) };
}

async function openSocketIo(databaseUrl: string, redisUrl: string): Promise<Deployment> {
  const servers: Server[] = [];
  for (let n = 0; n < 2; n += 1) servers.push(await startSocketIo(databaseUrl, SOCKET_IO_POOL_SIZE, redisUrl));
  const targets = servers.map(({ url }) => ({ protocol: "socketIo", url, token: "" }) satisfies LoadTarget);
  const conversations = Array.from({ length: CONVERSATIONS }, () => Bun.randomUUIDv7());
  return { name: "two Socket.IO servers over Redis", servers, load: await openLoad(targets, conversations) };
}

async function openLoad(targets: LoadTarget[], conversations: string[]): Promise<Load> {
  const load = startLoad("instances.ts");
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

async function measure(
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
  const before = readCpuTimes();
  const runStep: InstancesStep = { step: "run", durationMs: ROUND_MS };
  const { acks = 0, elapsedMs, cpuMs, missing = 0 } = await load.runStep(runStep);
  const after = readCpuTimes();
  const paceStep: InstancesStep = { step: "pace", durationMs: PACE_MS, perSecond: PACE_PER_SECOND };
  const paced = await load.runStep(paceStep);
  if (missing > 0 || (paced.missing ?? 0) > 0)
    throw new Error(`${name}: ${missing} and ${paced.missing} pushes never arrived.`);
  const shares = Object.fromEntries(
    Object.entries(after).map(([part, ms]) => [part, (ms - (before[part] ?? 0)) / elapsedMs]),
  );
  return {
    acksPerSecond: (acks / elapsedMs) * 1000,
    p50Ms: paced.p50Ms ?? Number.NaN,
    p99Ms: paced.p99Ms ?? Number.NaN,
    shares: { ...shares, load: cpuMs / elapsedMs },
  };
}

function describe(name: string, samples: Sample[]): string {
  const parts = Object.keys(samples[0]?.shares ?? {}).map(
    (part) => `${part} ${formatNumber(medianOf(samples, ({ shares }) => shares[part] ?? 0) * 100)} %`,
  );
  const p50Ms = formatNumber(medianOf(samples, (sample) => sample.p50Ms));
  return `${name}: ${parts.join(", ")} of a core; push p50 ${p50Ms} ms`;
}
