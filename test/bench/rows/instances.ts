import { startRedis } from "../../support/redis.ts";
import type { InstancesStep } from "../load/instances.ts";
import type { Target } from "../load/session.ts";
import { register } from "../support/account.ts";
import { type Load, startLoad } from "../support/load.ts";
import type { BenchPostgres } from "../support/postgres.ts";
import { readCpuMs, readFamilyCpuMs } from "../support/process-usage.ts";
import { type Line, type RowReport, show } from "../support/report.ts";
import { medianOf, runRounds } from "../support/rounds.ts";
import type { Context } from "../support/row.ts";
import { type Server, startParley, startSocketIo } from "../support/servers.ts";
import { onEnd } from "../support/temporary.ts";

const CONVERSATIONS = 50;
const IN_FLIGHT = 4;
const CONTENT_CHARS = 100;
const ROUND_MS = 4_000;
const PACE_MS = 3_000;
/** Far below the machine's capacity: this measures the latency of a push, not queueing. */
const PACE_PER_SECOND = 200;
const SOCKET_IO_POOL_SIZE = 10;
const JWT_SECRET = "the instances of a bench accept each other's tokens";
const bounds = { redis: { ratio: 1.6, p99Ms: 20 }, postgres: { ratio: 1.4, p99Ms: 60 } };

type Side = { name: string; servers: Server[]; load: Load };
/** Shares are of one core. */
type Sample = { acksPerSecond: number; p50Ms: number; p99Ms: number; shares: Record<string, number> };

/** Several instances: the throughput that a second one adds, and the latency of a push between them. */
export async function measureInstances({ rounds, getPostgres }: Context): Promise<RowReport> {
  const postgres = await getPostgres();
  const redis = await startRedis();
  onEnd(redis.stop);
  const redisPid = () => redis.findPid() ?? 0;
  const open = { one: 1, redis: 2, postgres: 2 };
  const sides: Record<string, Side> = {};
  for (const [name, count] of Object.entries(open))
    sides[name] = await openParley(postgres, name, count, name === "redis" ? redis.url : undefined);
  const databaseUrl = await postgres.createDatabase("instances_peer");
  sides.socketIo = await openSocketIo(databaseUrl, redis.url);

  const samples = await runRounds(
    Object.fromEntries(
      Object.entries(sides).map(([name, side]) => [name, () => measure(side, postgres, redisPid())]),
    ) as Record<string, () => Promise<Sample>>,
    rounds,
  );
  for (const { load, servers } of Object.values(sides)) {
    await load.stop();
    for (const server of servers) await server.stop();
  }
  await redis.stop();
  return {
    lines: (["redis", "postgres"] as const).flatMap((form) => createLines(form, samples)),
    notes: [
      `instances: ${CONVERSATIONS} conversations × ${IN_FLIGHT} in flight, each with a watcher at the other instance; ` +
        `pushes at ${PACE_PER_SECOND} messages/s`,
      ...Object.entries(sides).map(([name, { name: shown }]) => describe(shown, samples[name] ?? [])),
    ],
  };
}

function createLines(form: "redis" | "postgres", samples: Record<string, Sample[]>): Line[] {
  const acksOf = (name: string) => medianOf(samples[name] ?? [], ({ acksPerSecond }) => acksPerSecond);
  const p99Of = (name: string) => medianOf(samples[name] ?? [], ({ p99Ms }) => p99Ms);
  const shown = form === "redis" ? "Redis" : "Postgres";
  const { ratio, p99Ms } = bounds[form];
  const sends: Line = {
    what: `two instances, ${shown}`,
    unit: "acks/s",
    parley: acksOf(form),
    peer: { name: "one instance", value: acksOf("one") },
    bound: { atLeast: ratio },
  };
  const push: Line = { what: `push across, ${shown}, p99`, unit: "ms", parley: p99Of(form), bound: { upTo: p99Ms } };
  if (form === "postgres") return [sends, push];
  const name = "Socket.IO + Redis adapter";
  return [
    sends,
    { what: "  beside the usual", unit: "acks/s", parley: acksOf(form), peer: { name, value: acksOf("socketIo") } },
    { ...push, peer: { name, value: p99Of("socketIo") } },
  ];
}

async function openParley(postgres: BenchPostgres, name: string, count: number, redisUrl?: string): Promise<Side> {
  const databaseUrl = await postgres.createDatabase(`instances_${name}`);
  const environment = { JWT_SECRET, ...(redisUrl && { REDIS_URL: redisUrl }) };
  const servers: Server[] = [];
  for (let n = 0; n < count; n += 1) servers.push(await startParley({ databaseUrl, environment }));
  const { token, createConversation } = await register(servers[0]?.url ?? "");
  const conversations: string[] = [];
  for (let n = 0; n < CONVERSATIONS; n += 1) conversations.push(await createConversation());
  const targets = servers.map(({ url }) => ({ dialect: "parley", url, token }) satisfies Target);
  const shown = count === 1 ? "one Parley" : `two Parleys over ${redisUrl ? "Redis" : "Postgres"}`;
  return { name: shown, servers, load: await openLoad(targets, conversations) };
}

async function openSocketIo(databaseUrl: string, redisUrl: string): Promise<Side> {
  const servers: Server[] = [];
  for (let n = 0; n < 2; n += 1) servers.push(await startSocketIo(databaseUrl, SOCKET_IO_POOL_SIZE, redisUrl));
  const targets = servers.map(({ url }) => ({ dialect: "socketIo", url, token: "" }) satisfies Target);
  const conversations = Array.from({ length: CONVERSATIONS }, () => Bun.randomUUIDv7());
  return { name: "two of Socket.IO over Redis", servers, load: await openLoad(targets, conversations) };
}

async function openLoad(targets: Target[], conversations: string[]): Promise<Load> {
  const load = startLoad("instances.ts");
  const step: InstancesStep = {
    step: "open",
    targets,
    conversations,
    inFlight: IN_FLIGHT,
    contentChars: CONTENT_CHARS,
  };
  await load.ask(step);
  return load;
}

async function measure({ name, load, servers }: Side, postgres: BenchPostgres, redisPid: number): Promise<Sample> {
  await postgres.checkpoint();
  const read = (): Record<string, number> => ({
    ...Object.fromEntries(servers.map(({ pid }, n) => [`server ${n + 1}`, readCpuMs(pid)])),
    Postgres: readFamilyCpuMs(postgres.pid),
    Redis: readCpuMs(redisPid),
  });
  const before = read();
  const run: InstancesStep = { step: "run", durationMs: ROUND_MS };
  const { acks = 0, elapsedMs, cpuMs, missing = 0 } = await load.ask(run);
  const after = read();
  const pace: InstancesStep = { step: "pace", durationMs: PACE_MS, perSecond: PACE_PER_SECOND };
  const paced = await load.ask(pace);
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
    (part) => `${part} ${show(medianOf(samples, ({ shares }) => shares[part] ?? 0) * 100)} %`,
  );
  const p50Ms = show(medianOf(samples, (sample) => sample.p50Ms));
  return `${name}: ${parts.join(", ")} of a core; push p50 ${p50Ms} ms`;
}
