import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { RequestsStep } from "../load/requests.ts";
import { register } from "../support/account.ts";
import type { BenchmarkContext } from "../support/benchmark.ts";
import { type Load, startLoad } from "../support/load.ts";
import { readCpuMs, readProcessTreeCpuMs, readRssBytes } from "../support/process-usage.ts";
import { type BenchmarkReport, formatNumber, type Line } from "../support/report.ts";
import { medianOf, runRounds } from "../support/rounds.ts";
import { type Server, startParley } from "../support/servers.ts";
import { createTemporaryFolder } from "../support/temporary.ts";

const CONVERSATIONS = 20;
const MESSAGES = 10;
const CONTENT = "x".repeat(100);
const CONNECTIONS = 16;
const ROUND_MS = 2_000;
const RATIO_MIN = 1.3;
const BYTES_PER_MIB = 1024 * 1024;

/** A server, its Postgres, whose CPU time is also measured, and the loads that read its data. */
type Setup = { server: Server; postgresPid: number; loads: Record<Read, Load> };
type Read = "list" | "read" | "history";
type Sample = { perCpuSecond: number; perSecond: number; serverUs: number; postgresUs: number };

const labels: Record<Read, string> = {
  list: `list of ${CONVERSATIONS} conversations`,
  read: "one conversation",
  history: `history of ${MESSAGES} messages`,
};
const reads: Read[] = ["list", "read", "history"];

/** Measures frequent reads with and without caches, in requests per second of CPU time, including Postgres. */
export async function measureCaches({ rounds, getPostgres }: BenchmarkContext): Promise<BenchmarkReport> {
  const postgres = await getPostgres();
  const databaseUrl = await postgres.createDatabase("caches");
  const single = { on: await openEmbedded("on"), off: await openEmbedded("off") };
  // With several instances, only pages of histories are cached.
  const shared = {
    on: await open(await start("on", { databaseUrl }), postgres.pid),
    off: await open(await start("off", { databaseUrl }), postgres.pid),
  };
  const lines: Line[] = [];
  const notes = [
    `caches: ${CONNECTIONS} connections of one user, ${CONVERSATIONS} conversations in turn, ${MESSAGES} messages of ` +
      `${CONTENT.length} characters each; compared with READ_CACHE=off`,
  ];
  for (const read of reads) await compare(`${labels[read]}, embedded Postgres`, single, read);
  await compare(`${labels.history}, two instances`, shared, "history");
  notes.push(`RSS afterwards: ${formatRss(single.on)} MiB, without caches ${formatRss(single.off)} MiB`);
  for (const setup of [single.on, single.off, shared.on, shared.off]) await stopSetup(setup);
  return { lines, notes };

  async function compare(what: string, setups: { on: Setup; off: Setup }, read: Read): Promise<void> {
    const samples = await runRounds(
      { on: () => measure(setups.on, read), off: () => measure(setups.off, read) },
      rounds,
    );
    const perCpuSecond = (roundSamples: Sample[]) => medianOf(roundSamples, (sample) => sample.perCpuSecond);
    lines.push({
      what,
      unit: "req/CPU s",
      parley: perCpuSecond(samples.on),
      peer: { name: "without caches", value: perCpuSecond(samples.off) },
      target: { atLeast: RATIO_MIN },
    });
    for (const [name, roundSamples] of Object.entries(samples))
      notes.push(`${what}, ${name}: ${describe(roundSamples)}`);
  }
}

function describe(roundSamples: Sample[]): string {
  const median = (read: (sample: Sample) => number) => formatNumber(medianOf(roundSamples, read));
  return (
    `${median(({ perSecond }) => perSecond)} requests/s, CPU each: Parley ${median(({ serverUs }) => serverUs)} µs, ` +
    `Postgres ${median(({ postgresUs }) => postgresUs)} µs`
  );
}

const formatRss = ({ server }: Setup): string => formatNumber(readRssBytes(server.pid) / BYTES_PER_MIB);

const start = (READ_CACHE: "on" | "off", location: { databaseUrl?: string; dataDir?: string }): Promise<Server> =>
  startParley({ ...location, environment: { LOG_LEVEL: "warn", READ_CACHE } });

async function openEmbedded(cache: "on" | "off"): Promise<Setup> {
  const dataDir = createTemporaryFolder();
  const server = await start(cache, { dataDir });
  const file = readFileSync(join(dataDir, "postgres/postmaster.pid"), "utf8");
  return open(server, Number(file.split("\n")[0]));
}

async function open(server: Server, postgresPid: number): Promise<Setup> {
  const account = await register(server.url);
  const headers = { authorization: `Bearer ${account.token}` };
  const paths: string[] = [];
  for (let n = 0; n < CONVERSATIONS; n += 1) {
    const path = `/api/v1/conversations/${await account.createConversation()}`;
    paths.push(path);
    for (let message = 0; message < MESSAGES; message += 1) await send(`${server.url}${path}/messages`, headers);
  }
  const openLoad = async (path: string | string[]): Promise<Load> => {
    const load = startLoad("requests.ts");
    const step: RequestsStep = {
      step: "open",
      url: server.url,
      method: "GET",
      path,
      headers,
      connections: CONNECTIONS,
    };
    await load.runStep(step);
    return load;
  };
  const loads = {
    list: await openLoad("/api/v1/conversations"),
    read: await openLoad(paths),
    history: await openLoad(paths.map((path) => `${path}/messages`)),
  };
  return { server, postgresPid, loads };
}

async function send(url: string, headers: Record<string, string>): Promise<void> {
  const response = await fetch(url, {
    method: "POST",
    headers: { ...headers, "content-type": "application/json" },
    body: JSON.stringify({ content: CONTENT }),
  });
  if (response.status !== 201) throw new Error(`${url}: ${response.status} ${await response.text()}`);
}

async function stopSetup({ server, loads }: Setup): Promise<void> {
  for (const load of Object.values(loads)) await load.stop();
  await server.stop();
}

async function measure({ server, postgresPid, loads }: Setup, read: Read): Promise<Sample> {
  const serverBefore = readCpuMs(server.pid);
  const postgresBefore = readProcessTreeCpuMs(postgresPid);
  const step: RequestsStep = { step: "run", durationMs: ROUND_MS };
  const { requests = 0, elapsedMs } = await loads[read].runStep(step);
  const serverMs = readCpuMs(server.pid) - serverBefore;
  const postgresMs = readProcessTreeCpuMs(postgresPid) - postgresBefore;
  return {
    perCpuSecond: (requests / (serverMs + postgresMs)) * 1_000,
    perSecond: (requests / elapsedMs) * 1_000,
    serverUs: (serverMs / requests) * 1_000,
    postgresUs: (postgresMs / requests) * 1_000,
  };
}
