import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { RequestsStep } from "../load/requests.ts";
import { register } from "../support/account.ts";
import { type Load, startLoad } from "../support/load.ts";
import { readCpuMs, readFamilyCpuMs, readRssBytes } from "../support/process-usage.ts";
import { type Line, type RowReport, show } from "../support/report.ts";
import { medianOf, runRounds } from "../support/rounds.ts";
import type { Context } from "../support/row.ts";
import { type Server, startParley } from "../support/servers.ts";
import { createTemporaryFolder } from "../support/temporary.ts";

const CONVERSATIONS = 20;
const MESSAGES = 10;
const CONTENT = "x".repeat(100);
const CONNECTIONS = 16;
const ROUND_MS = 2_000;
const RATIO_MIN = 1.3;
const BYTES_PER_MIB = 1024 * 1024;

/** A server and the data that its user reads; the CPU time of Postgres counts too. */
type Site = { server: Server; postgresPid: number; loads: Record<Read, Load> };
type Read = "list" | "read" | "history";
type Sample = { perCpuSecond: number; perSecond: number; serverUs: number; postgresUs: number };

const labels: Record<Read, string> = {
  list: `list of ${CONVERSATIONS} conversations`,
  read: "one conversation",
  history: `history of ${MESSAGES} messages`,
};
const reads: Read[] = ["list", "read", "history"];

/** Frequent reads, compared with the same executable without caches: requests per second of CPU, including Postgres. */
export async function measureCaches({ rounds, getPostgres }: Context): Promise<RowReport> {
  const postgres = await getPostgres();
  const databaseUrl = await postgres.createDatabase("caches");
  const alone = { on: await openEmbedded("on"), off: await openEmbedded("off") };
  // With another instance, no responses are cached, only pages of histories.
  const shared = {
    on: await open(await start("on", { databaseUrl }), postgres.pid),
    off: await open(await start("off", { databaseUrl }), postgres.pid),
  };
  const lines: Line[] = [];
  const notes = [
    `caches: ${CONNECTIONS} connections of one user, ${CONVERSATIONS} conversations in turn, ${MESSAGES} messages of ` +
      `${CONTENT.length} characters each; beside it: READ_CACHE=off`,
  ];
  for (const read of reads) await compare(`${labels[read]}, embedded Postgres`, alone, read);
  await compare(`${labels.history}, two instances`, shared, "history");
  notes.push(`RSS afterwards: ${showRss(alone.on)} MiB, without caches ${showRss(alone.off)} MiB`);
  for (const site of [alone.on, alone.off, shared.on, shared.off]) await close(site);
  return { lines, notes };

  async function compare(what: string, sites: { on: Site; off: Site }, read: Read): Promise<void> {
    const samples = await runRounds({ on: () => measure(sites.on, read), off: () => measure(sites.off, read) }, rounds);
    const perCpuSecond = (of: Sample[]) => medianOf(of, (sample) => sample.perCpuSecond);
    lines.push({
      what,
      unit: "req/CPU s",
      parley: perCpuSecond(samples.on),
      peer: { name: "without caches", value: perCpuSecond(samples.off) },
      bound: { atLeast: RATIO_MIN },
    });
    for (const [name, of] of Object.entries(samples)) notes.push(`${what}, ${name}: ${describe(of)}`);
  }
}

function describe(of: Sample[]): string {
  const median = (read: (sample: Sample) => number) => show(medianOf(of, read));
  return (
    `${median(({ perSecond }) => perSecond)} requests/s, CPU each: Parley ${median(({ serverUs }) => serverUs)} µs, ` +
    `Postgres ${median(({ postgresUs }) => postgresUs)} µs`
  );
}

const showRss = ({ server }: Site): string => show(readRssBytes(server.pid) / BYTES_PER_MIB);

const start = (READ_CACHE: "on" | "off", where: { databaseUrl?: string; dataDir?: string }): Promise<Server> =>
  startParley({ ...where, environment: { LOG_LEVEL: "warn", READ_CACHE } });

async function openEmbedded(cache: "on" | "off"): Promise<Site> {
  const dataDir = createTemporaryFolder();
  const server = await start(cache, { dataDir });
  const file = readFileSync(join(dataDir, "postgres/postmaster.pid"), "utf8");
  return open(server, Number(file.split("\n")[0]));
}

async function open(server: Server, postgresPid: number): Promise<Site> {
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
    await load.ask(step);
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

async function close({ server, loads }: Site): Promise<void> {
  for (const load of Object.values(loads)) await load.stop();
  await server.stop();
}

async function measure({ server, postgresPid, loads }: Site, read: Read): Promise<Sample> {
  const serverBefore = readCpuMs(server.pid);
  const postgresBefore = readFamilyCpuMs(postgresPid);
  const step: RequestsStep = { step: "run", durationMs: ROUND_MS };
  const { requests = 0, elapsedMs } = await loads[read].ask(step);
  const serverMs = readCpuMs(server.pid) - serverBefore;
  const postgresMs = readFamilyCpuMs(postgresPid) - postgresBefore;
  return {
    perCpuSecond: (requests / (serverMs + postgresMs)) * 1_000,
    perSecond: (requests / elapsedMs) * 1_000,
    serverUs: (serverMs / requests) * 1_000,
    postgresUs: (postgresMs / requests) * 1_000,
  };
}
