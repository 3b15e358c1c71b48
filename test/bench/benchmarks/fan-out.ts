import type { FanOutStep } from "../load/fan-out.ts";
import type { LoadTarget } from "../load/session.ts";
import { registerAccount } from "../support/account.ts";
import type { BenchmarkContext } from "../support/benchmark.ts";
import { type LoadProcess, type LoadResult, startLoadProcess } from "../support/load.ts";
import { readCpuMs } from "../support/process-usage.ts";
import { type BenchmarkReport, formatNumber } from "../support/report.ts";
import { medianBy, runRounds } from "../support/rounds.ts";
import { type Server, startBareBun, startParley, startSocketIo } from "../support/servers.ts";

const SUBSCRIBERS = 1_000;
const MESSAGES = 300;
const CONTENT_CHARS = 100;
const SOCKET_IO_POOL_SIZE = 10;
const CPU_RATIO_MAX = 1.15;
const US_PER_MS = 1_000;

type Sample = { cpuUsPerDelivery: number; loadCpuUsPerDelivery: number; messagesPerSecond: number };
type Competitor = { load: LoadProcess; server: Server };

/** Measures the CPU time of delivering a message to one of many subscribers. */
export async function measureFanOut({ rounds, getPostgres }: BenchmarkContext): Promise<BenchmarkReport> {
  const postgres = await getPostgres();
  const parleyServer = await startParley({ databaseUrl: await postgres.createDatabase("fan_out") });
  const { token, createConversation } = await registerAccount(parleyServer.url);
  const conversation = await createConversation();
  const parley = await openCompetitor(parleyServer, "parley", conversation, token);
  const { pushBytes = 0 } = await sendMessages(parley.load, 1);

  const bare = await openCompetitor(await startBareBun(pushBytes), "bare", conversation);
  const socketIoUrl = await postgres.createDatabase("fan_out_peer");
  const socketIo = await openCompetitor(
    await startSocketIo(socketIoUrl, SOCKET_IO_POOL_SIZE),
    "socketIo",
    conversation,
  );
  const samples = await runRounds(
    {
      parley: () => measureDeliveries(parley),
      bare: () => measureDeliveries(bare),
      socketIo: () => measureDeliveries(socketIo),
    },
    rounds,
  );
  for (const { load, server } of [parley, bare, socketIo]) {
    await load.stop();
    await server.stop();
  }
  const getMedianCpuUs = (roundSamples: Sample[]) => medianBy(roundSamples, (sample) => sample.cpuUsPerDelivery);
  const label = `fan-out to ${formatNumber(SUBSCRIBERS)}`;
  const commonFields = { label, unit: "µs CPU/delivery", parley: getMedianCpuUs(samples.parley) };
  return {
    lines: [
      {
        ...commonFields,
        peer: { name: "bare Bun publish", value: getMedianCpuUs(samples.bare) },
        target: { atMost: CPU_RATIO_MAX },
      },
      { ...commonFields, peer: { name: "Socket.IO + pg", value: getMedianCpuUs(samples.socketIo) } },
    ],
    notes: [
      `fan-out: ${MESSAGES} messages per round, each sent after all have received the previous one; pushes of ${pushBytes} bytes; ` +
        "Parley's figure includes storing each message",
      ...Object.entries(samples).map(
        ([name, roundSamples]) =>
          `${name}: ${formatNumber(medianBy(roundSamples, (sample) => sample.messagesPerSecond))} messages/s, ` +
          `load ${formatNumber(medianBy(roundSamples, (sample) => sample.loadCpuUsPerDelivery))} µs CPU/delivery`,
      ),
    ],
  };
}

async function openCompetitor(
  server: Server,
  protocol: LoadTarget["protocol"],
  conversation: string,
  token = "",
): Promise<Competitor> {
  const load = startLoadProcess("fan-out.ts");
  const target: LoadTarget = { protocol, url: server.url, token };
  const step: FanOutStep = {
    step: "open",
    target,
    conversation,
    subscribers: SUBSCRIBERS,
    contentChars: CONTENT_CHARS,
  };
  await load.runStep(step);
  return { load, server };
}

function sendMessages(load: LoadProcess, messages: number): Promise<LoadResult> {
  const step: FanOutStep = { step: "run", messages };
  return load.runStep(step);
}

async function measureDeliveries({ load, server }: Competitor): Promise<Sample> {
  const cpuBeforeMs = readCpuMs(server.pid);
  const { deliveries = 0, cpuMs, elapsedMs } = await sendMessages(load, MESSAGES);
  return {
    cpuUsPerDelivery: ((readCpuMs(server.pid) - cpuBeforeMs) * US_PER_MS) / deliveries,
    loadCpuUsPerDelivery: (cpuMs * US_PER_MS) / deliveries,
    messagesPerSecond: (MESSAGES / elapsedMs) * 1000,
  };
}
