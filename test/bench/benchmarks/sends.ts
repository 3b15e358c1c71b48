import type { InsertsStep } from "../load/inserts.ts";
import type { SendsStep } from "../load/sends.ts";
import type { LoadTarget } from "../load/session.ts";
import { type BenchAccount, registerAccount } from "../support/account.ts";
import type { BenchmarkContext } from "../support/benchmark.ts";
import { type LoadProcess, startLoadProcess } from "../support/load.ts";
import type { BenchPostgres } from "../support/postgres.ts";
import { readCpuMs, readProcessTreeCpuMs } from "../support/process-usage.ts";
import { type BenchmarkReport, formatNumber } from "../support/report.ts";
import { medianBy, runRounds } from "../support/rounds.ts";
import { type Server, startParley, startSocketIo } from "../support/servers.ts";

const CONVERSATIONS = 50;
const IN_FLIGHT_PER_CONVERSATION = 4;
const CONTENT_CHARS = 100;
const ROUND_MS = 4_000;
/** Pool sizes to try for the peer. The fastest one is used. */
const POOL_SIZES = [10, 20, 50];
const ACKS_RATIO_MIN = 6;

/** CPU shares are fractions of one core. */
type Sample = { acks: number; acksPerSecond: number; serverShare: number; postgresShare: number; loadShare: number };

/** Measures durable sends, in acks per second. */
export async function measureSends({ rounds, getPostgres }: BenchmarkContext): Promise<BenchmarkReport> {
  const postgres = await getPostgres();
  const parleyUrl = await postgres.createDatabase("sends");
  const parley = await startParley({ databaseUrl: parleyUrl });
  const account = await registerAccount(parley.url);
  const target: LoadTarget = { protocol: "parley", url: parley.url, token: account.token };
  const load = await openLoad(target, await createConversations(account));
  const { best: peer, poolNote } = await findFastestPeer(postgres);
  const inserts = startLoadProcess("inserts.ts");
  const openStep: InsertsStep = {
    step: "open",
    databaseUrl: parleyUrl,
    conversations: await createConversations(account),
    authorId: account.userId,
    contentChars: CONTENT_CHARS,
  };
  await inserts.runStep(openStep);

  let batchRows = 1;
  const samples = await runRounds(
    {
      parley: async () => {
        const commitsBefore = await postgres.countCommits("sends");
        const sample = await measureSample(load, parley, postgres);
        batchRows = Math.max(1, Math.round(sample.acks / ((await postgres.countCommits("sends")) - commitsBefore)));
        return { ...sample, batchRows };
      },
      peer: () => measureSample(peer.load, peer.server, postgres),
      inserts: async () => {
        await postgres.checkpoint();
        const runStep: InsertsStep = { step: "run", durationMs: ROUND_MS, batchRows };
        const { rows = 0, elapsedMs } = await inserts.runStep(runStep);
        return (rows / elapsedMs) * 1000;
      },
    },
    rounds,
  );
  const medianAcksPerSecond = medianBy(samples.parley, ({ acksPerSecond }) => acksPerSecond);
  const peerName = `Socket.IO + pg, pool of ${peer.poolSize}`;
  for (const { load: usedLoad, server } of [{ load, server: parley }, peer]) {
    await usedLoad.stop();
    await server.stop();
  }
  await inserts.stop();
  return {
    lines: [
      {
        label: "durable sends",
        unit: "acks/s",
        parley: medianAcksPerSecond,
        peer: { name: peerName, value: medianBy(samples.peer, ({ acksPerSecond }) => acksPerSecond) },
        target: { atLeast: ACKS_RATIO_MIN },
      },
      {
        label: "  the same",
        unit: "rows/s",
        parley: medianAcksPerSecond,
        peer: {
          name: `bare batches of ${formatNumber(medianBy(samples.parley, (sample) => sample.batchRows))}`,
          value: medianBy(samples.inserts, (rowsPerSecond) => rowsPerSecond),
        },
      },
    ],
    notes: [
      `durable sends: ${CONVERSATIONS} conversations × ${IN_FLIGHT_PER_CONVERSATION} in flight, ${CONTENT_CHARS} characters each`,
      describeCpu("Parley", samples.parley),
      describeCpu(peerName, samples.peer),
      poolNote,
    ],
  };
}

type Candidate = { poolSize: number; server: Server; load: LoadProcess; acksPerSecond: number };

/** Measures each pool size twice, because the first time is a warm-up. Returns the fastest peer, which keeps running. */
async function findFastestPeer(postgres: BenchPostgres): Promise<{ best: Candidate; poolNote: string }> {
  const candidates: Candidate[] = [];
  for (const poolSize of POOL_SIZES) {
    const server = await startSocketIo(await postgres.createDatabase(`peer_${poolSize}`), poolSize);
    const load = await openLoad({ protocol: "socketIo", url: server.url, token: "" }, createIds());
    await measureSample(load, server, postgres);
    const { acksPerSecond } = await measureSample(load, server, postgres);
    candidates.push({ poolSize, server, load, acksPerSecond });
  }
  const [best, ...slowerCandidates] = candidates.toSorted((a, b) => b.acksPerSecond - a.acksPerSecond);
  if (!best) throw new Error("POOL_SIZES is empty.");
  for (const { load, server } of slowerCandidates) {
    await load.stop();
    await server.stop();
  }
  const triedSizes = candidates
    .map(({ poolSize, acksPerSecond }) => `${poolSize}: ${formatNumber(acksPerSecond)} acks/s`)
    .join(", ");
  return { best, poolNote: `pool sizes: ${triedSizes}` };
}

const createIds = () => Array.from({ length: CONVERSATIONS }, () => Bun.randomUUIDv7());

async function createConversations({ createConversation }: BenchAccount): Promise<string[]> {
  const ids: string[] = [];
  for (let n = 0; n < CONVERSATIONS; n += 1) ids.push(await createConversation());
  return ids;
}

async function openLoad(target: LoadTarget, conversations: string[]): Promise<LoadProcess> {
  const load = startLoadProcess("sends.ts");
  const step: SendsStep = {
    step: "open",
    target,
    conversations,
    inFlight: IN_FLIGHT_PER_CONVERSATION,
    contentChars: CONTENT_CHARS,
  };
  await load.runStep(step);
  return load;
}

async function measureSample(load: LoadProcess, server: Server, postgres: BenchPostgres): Promise<Sample> {
  await postgres.checkpoint();
  const serverCpuBeforeMs = readCpuMs(server.pid);
  const postgresCpuBeforeMs = readProcessTreeCpuMs(postgres.pid);
  const step: SendsStep = { step: "run", durationMs: ROUND_MS };
  const { acks = 0, elapsedMs, cpuMs } = await load.runStep(step);
  return {
    acks,
    acksPerSecond: (acks / elapsedMs) * 1000,
    serverShare: (readCpuMs(server.pid) - serverCpuBeforeMs) / elapsedMs,
    postgresShare: (readProcessTreeCpuMs(postgres.pid) - postgresCpuBeforeMs) / elapsedMs,
    loadShare: cpuMs / elapsedMs,
  };
}

function describeCpu(name: string, samples: Sample[]): string {
  const formatPercent = (getValue: (sample: Sample) => number) =>
    `${formatNumber(medianBy(samples, getValue) * 100)} %`;
  return (
    `${name}: server ${formatPercent((sample) => sample.serverShare)} of a core, ` +
    `Postgres ${formatPercent((sample) => sample.postgresShare)}, load ${formatPercent((sample) => sample.loadShare)}`
  );
}
