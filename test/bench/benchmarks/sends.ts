import type { InsertsStep } from "../load/inserts.ts";
import type { SendsStep } from "../load/sends.ts";
import type { LoadTarget } from "../load/session.ts";
import { type BenchAccount, register } from "../support/account.ts";
import type { BenchmarkContext } from "../support/benchmark.ts";
import { type Load, startLoad } from "../support/load.ts";
import type { BenchPostgres } from "../support/postgres.ts";
import { readCpuMs, readProcessTreeCpuMs } from "../support/process-usage.ts";
import { type BenchmarkReport, formatNumber } from "../support/report.ts";
import { medianOf, runRounds } from "../support/rounds.ts";
import { type Server, startParley, startSocketIo } from "../support/servers.ts";

const CONVERSATIONS = 50;
const IN_FLIGHT_PER_CONVERSATION = 4;
const CONTENT_CHARS = 100;
const ROUND_MS = 4_000;
/** Pool sizes to try for the peer. The fastest one is used. */
const POOL_SIZES = [10, 20, 50];
const ACKS_RATIO_MIN = 6;

/** CPU shares are fractions of one core. */
type Sample = { acks: number; perSecond: number; serverShare: number; postgresShare: number; loadShare: number };

/** Measures durable sends, in acks per second. */
export async function measureSends({ rounds, getPostgres }: BenchmarkContext): Promise<BenchmarkReport> {
  const postgres = await getPostgres();
  const parleyUrl = await postgres.createDatabase("sends");
  const parley = await startParley({ databaseUrl: parleyUrl });
  const account = await register(parley.url);
  const target: LoadTarget = { protocol: "parley", url: parley.url, token: account.token };
  const load = await openLoad(target, await createConversations(account));
  const { best: peer, poolNote } = await findFastestPeer(postgres);
  const inserts = startLoad("inserts.ts");
  const open: InsertsStep = {
    step: "open",
    databaseUrl: parleyUrl,
    conversations: await createConversations(account),
    authorId: account.userId,
    contentChars: CONTENT_CHARS,
  };
  await inserts.runStep(open);

  let batchRows = 1;
  const samples = await runRounds(
    {
      parley: async () => {
        const commitsBefore = await postgres.countCommits("sends");
        const sample = await runOnce(load, parley, postgres);
        batchRows = Math.max(1, Math.round(sample.acks / ((await postgres.countCommits("sends")) - commitsBefore)));
        return { ...sample, batchRows };
      },
      peer: () => runOnce(peer.load, peer.server, postgres),
      inserts: async () => {
        await postgres.checkpoint();
        const run: InsertsStep = { step: "run", durationMs: ROUND_MS, batchRows };
        const { rows = 0, elapsedMs } = await inserts.runStep(run);
        return (rows / elapsedMs) * 1000;
      },
    },
    rounds,
  );
  const acksPerSecond = medianOf(samples.parley, ({ perSecond }) => perSecond);
  const peerName = `Socket.IO + pg, pool of ${peer.poolSize}`;
  for (const { load: usedLoad, server } of [{ load, server: parley }, peer]) {
    await usedLoad.stop();
    await server.stop();
  }
  await inserts.stop();
  return {
    lines: [
      {
        what: "durable sends",
        unit: "acks/s",
        parley: acksPerSecond,
        peer: { name: peerName, value: medianOf(samples.peer, ({ perSecond }) => perSecond) },
        target: { atLeast: ACKS_RATIO_MIN },
      },
      {
        what: "  the same",
        unit: "rows/s",
        parley: acksPerSecond,
        peer: {
          name: `bare batches of ${formatNumber(medianOf(samples.parley, (sample) => sample.batchRows))}`,
          value: medianOf(samples.inserts, (perSecond) => perSecond),
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

type Candidate = { poolSize: number; server: Server; load: Load; perSecond: number };

/** Measures each pool size twice, because the first time is a warm-up. Returns the fastest peer, which keeps running. */
async function findFastestPeer(postgres: BenchPostgres): Promise<{ best: Candidate; poolNote: string }> {
  const candidates: Candidate[] = [];
  for (const poolSize of POOL_SIZES) {
    const server = await startSocketIo(await postgres.createDatabase(`peer_${poolSize}`), poolSize);
    const load = await openLoad({ protocol: "socketIo", url: server.url, token: "" }, createIds());
    await runOnce(load, server, postgres);
    const { perSecond } = await runOnce(load, server, postgres);
    candidates.push({ poolSize, server, load, perSecond });
  }
  const [best, ...slowerCandidates] = candidates.toSorted((a, b) => b.perSecond - a.perSecond);
  if (!best) throw new Error("POOL_SIZES is empty.");
  for (const { load, server } of slowerCandidates) {
    await load.stop();
    await server.stop();
  }
  const triedSizes = candidates
    .map(({ poolSize, perSecond }) => `${poolSize}: ${formatNumber(perSecond)} acks/s`)
    .join(", ");
  return { best, poolNote: `pool sizes: ${triedSizes}` };
}

const createIds = () => Array.from({ length: CONVERSATIONS }, () => Bun.randomUUIDv7());

async function createConversations({ createConversation }: BenchAccount): Promise<string[]> {
  const ids: string[] = [];
  for (let n = 0; n < CONVERSATIONS; n += 1) ids.push(await createConversation());
  return ids;
}

async function openLoad(target: LoadTarget, conversations: string[]): Promise<Load> {
  const load = startLoad("sends.ts");
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

async function runOnce(load: Load, server: Server, postgres: BenchPostgres): Promise<Sample> {
  await postgres.checkpoint();
  const serverBefore = readCpuMs(server.pid);
  const postgresBefore = readProcessTreeCpuMs(postgres.pid);
  const step: SendsStep = { step: "run", durationMs: ROUND_MS };
  const { acks = 0, elapsedMs, cpuMs } = await load.runStep(step);
  return {
    acks,
    perSecond: (acks / elapsedMs) * 1000,
    serverShare: (readCpuMs(server.pid) - serverBefore) / elapsedMs,
    postgresShare: (readProcessTreeCpuMs(postgres.pid) - postgresBefore) / elapsedMs,
    loadShare: cpuMs / elapsedMs,
  };
}

function describeCpu(name: string, samples: Sample[]): string {
  const percent = (read: (sample: Sample) => number) => `${formatNumber(medianOf(samples, read) * 100)} %`;
  return (
    `${name}: server ${percent((sample) => sample.serverShare)} of a core, ` +
    `Postgres ${percent((sample) => sample.postgresShare)}, load ${percent((sample) => sample.loadShare)}`
  );
}
