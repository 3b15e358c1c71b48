import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { RequestsStep } from "../load/requests.ts";
import { registerAccount } from "../support/account.ts";
import type { BenchmarkContext } from "../support/benchmark.ts";
import { type LoadProcess, startLoadProcess } from "../support/load.ts";
import { readCpuMs, readProcessTreeCpuMs, readRssBytes } from "../support/process-usage.ts";
import { type BenchmarkReport, formatNumber, type Line } from "../support/report.ts";
import { medianBy, runRounds } from "../support/rounds.ts";
import { type Server, startParley } from "../support/servers.ts";
import { createTemporaryFolder } from "../support/temporary.ts";

const CONVERSATIONS = 20;
const MESSAGES = 10;
const CONTENT = "x".repeat(100);
const CONNECTIONS = 16;
const ROUND_MS = 2_000;
const RATIO_MIN = 1.3;
const BYTES_PER_MIB = 1024 * 1024;

/** A server, the process id of its Postgres, and a load process for each kind of read. */
type Setup = { server: Server; postgresPid: number; loads: Record<ReadKind, LoadProcess> };
type ReadKind = "list" | "read" | "history";
type Sample = { requestsPerCpuSecond: number; requestsPerSecond: number; serverCpuUs: number; postgresCpuUs: number };

const readLabels: Record<ReadKind, string> = {
  list: `list of ${CONVERSATIONS} conversations`,
  read: "one conversation",
  history: `history of ${MESSAGES} messages`,
};
const readKinds: ReadKind[] = ["list", "read", "history"];

/** Measures frequent reads with and without caches, in requests per second of CPU time, including Postgres. */
export async function measureCaches({ rounds, getPostgres }: BenchmarkContext): Promise<BenchmarkReport> {
  const postgres = await getPostgres();
  const databaseUrl = await postgres.createDatabase("caches");
  const embeddedSetups = { on: await openEmbeddedSetup("on"), off: await openEmbeddedSetup("off") };
  // With several instances, only pages of histories are cached.
  const sharedDatabaseSetups = {
    on: await openSetup(await startServer("on", { databaseUrl }), postgres.pid),
    off: await openSetup(await startServer("off", { databaseUrl }), postgres.pid),
  };
  const lines: Line[] = [];
  const notes = [
    `caches: ${CONNECTIONS} connections of one user, ${CONVERSATIONS} conversations in turn, ${MESSAGES} messages of ` +
      `${CONTENT.length} characters each; compared with READ_CACHE=off`,
  ];
  for (const kind of readKinds) await compareSetups(`${readLabels[kind]}, embedded Postgres`, embeddedSetups, kind);
  await compareSetups(`${readLabels.history}, two instances`, sharedDatabaseSetups, "history");
  notes.push(
    `RSS afterwards: ${formatRss(embeddedSetups.on)} MiB, without caches ${formatRss(embeddedSetups.off)} MiB`,
  );
  for (const setup of [embeddedSetups.on, embeddedSetups.off, sharedDatabaseSetups.on, sharedDatabaseSetups.off])
    await stopSetup(setup);
  return { lines, notes };

  async function compareSetups(label: string, setups: { on: Setup; off: Setup }, kind: ReadKind): Promise<void> {
    const samples = await runRounds(
      { on: () => measureReads(setups.on, kind), off: () => measureReads(setups.off, kind) },
      rounds,
    );
    const getMedianRequestsPerCpuSecond = (roundSamples: Sample[]) =>
      medianBy(roundSamples, (sample) => sample.requestsPerCpuSecond);
    lines.push({
      label,
      unit: "req/CPU s",
      parley: getMedianRequestsPerCpuSecond(samples.on),
      peer: { name: "without caches", value: getMedianRequestsPerCpuSecond(samples.off) },
      target: { atLeast: RATIO_MIN },
    });
    for (const [name, roundSamples] of Object.entries(samples))
      notes.push(`${label}, ${name}: ${describeSamples(roundSamples)}`);
  }
}

function describeSamples(roundSamples: Sample[]): string {
  const formatMedian = (getValue: (sample: Sample) => number) => formatNumber(medianBy(roundSamples, getValue));
  return (
    `${formatMedian(({ requestsPerSecond }) => requestsPerSecond)} requests/s, CPU each: Parley ${formatMedian(({ serverCpuUs }) => serverCpuUs)} µs, ` +
    `Postgres ${formatMedian(({ postgresCpuUs }) => postgresCpuUs)} µs`
  );
}

const formatRss = ({ server }: Setup): string => formatNumber(readRssBytes(server.pid) / BYTES_PER_MIB);

const startServer = (READ_CACHE: "on" | "off", location: { databaseUrl?: string; dataDir?: string }): Promise<Server> =>
  startParley({ ...location, environment: { LOG_LEVEL: "warn", READ_CACHE } });

async function openEmbeddedSetup(cache: "on" | "off"): Promise<Setup> {
  const dataDir = createTemporaryFolder();
  const server = await startServer(cache, { dataDir });
  const file = readFileSync(join(dataDir, "postgres/postmaster.pid"), "utf8");
  return openSetup(server, Number(file.split("\n")[0]));
}

async function openSetup(server: Server, postgresPid: number): Promise<Setup> {
  const account = await registerAccount(server.url);
  const headers = { authorization: `Bearer ${account.token}` };
  const paths: string[] = [];
  for (let n = 0; n < CONVERSATIONS; n += 1) {
    const path = `/api/v1/conversations/${await account.createConversation()}`;
    paths.push(path);
    for (let message = 0; message < MESSAGES; message += 1) await sendMessage(`${server.url}${path}/messages`, headers);
  }
  const openLoad = async (path: string | string[]): Promise<LoadProcess> => {
    const load = startLoadProcess("requests.ts");
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

async function sendMessage(url: string, headers: Record<string, string>): Promise<void> {
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

async function measureReads({ server, postgresPid, loads }: Setup, kind: ReadKind): Promise<Sample> {
  const serverCpuBeforeMs = readCpuMs(server.pid);
  const postgresCpuBeforeMs = readProcessTreeCpuMs(postgresPid);
  const step: RequestsStep = { step: "run", durationMs: ROUND_MS };
  const { requests = 0, elapsedMs } = await loads[kind].runStep(step);
  const serverCpuMs = readCpuMs(server.pid) - serverCpuBeforeMs;
  const postgresCpuMs = readProcessTreeCpuMs(postgresPid) - postgresCpuBeforeMs;
  return {
    requestsPerCpuSecond: (requests / (serverCpuMs + postgresCpuMs)) * 1_000,
    requestsPerSecond: (requests / elapsedMs) * 1_000,
    serverCpuUs: (serverCpuMs / requests) * 1_000,
    postgresCpuUs: (postgresCpuMs / requests) * 1_000,
  };
}
