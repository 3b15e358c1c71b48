import type { FanOutStep } from "../load/fan-out.ts";
import type { LoadTarget } from "../load/session.ts";
import { register } from "../support/account.ts";
import type { BenchmarkContext } from "../support/benchmark.ts";
import { type Load, type LoadResult, startLoad } from "../support/load.ts";
import { readCpuMs } from "../support/process-usage.ts";
import { type BenchmarkReport, formatNumber } from "../support/report.ts";
import { medianOf, runRounds } from "../support/rounds.ts";
import { type Server, startBareBun, startParley, startSocketIo } from "../support/servers.ts";

const SUBSCRIBERS = 1_000;
const MESSAGES = 300;
const CONTENT_CHARS = 100;
const SOCKET_IO_POOL_SIZE = 10;
const CPU_RATIO_MAX = 1.15;
const US_PER_MS = 1_000;

type Sample = { usPerDelivery: number; loadUsPerDelivery: number; messagesPerSecond: number };
type Competitor = { load: Load; server: Server };

/** Measures the CPU time of delivering a message to one of many subscribers. */
export async function measureFanOut({ rounds, getPostgres }: BenchmarkContext): Promise<BenchmarkReport> {
  const postgres = await getPostgres();
  const parleyServer = await startParley({ databaseUrl: await postgres.createDatabase("fan_out") });
  const { token, createConversation } = await register(parleyServer.url);
  const conversation = await createConversation();
  const parley = await open(parleyServer, "parley", conversation, token);
  const { pushBytes = 0 } = await run(parley.load, 1);

  const bare = await open(await startBareBun(pushBytes), "bare", conversation);
  const socketIoUrl = await postgres.createDatabase("fan_out_peer");
  const socketIo = await open(await startSocketIo(socketIoUrl, SOCKET_IO_POOL_SIZE), "socketIo", conversation);
  const samples = await runRounds(
    { parley: () => measure(parley), bare: () => measure(bare), socketIo: () => measure(socketIo) },
    rounds,
  );
  for (const { load, server } of [parley, bare, socketIo]) {
    await load.stop();
    await server.stop();
  }
  const usPerDelivery = (roundSamples: Sample[]) => medianOf(roundSamples, (sample) => sample.usPerDelivery);
  const what = `fan-out to ${formatNumber(SUBSCRIBERS)}`;
  const line = { what, unit: "µs CPU/delivery", parley: usPerDelivery(samples.parley) };
  return {
    lines: [
      {
        ...line,
        peer: { name: "bare Bun publish", value: usPerDelivery(samples.bare) },
        target: { atMost: CPU_RATIO_MAX },
      },
      { ...line, peer: { name: "Socket.IO + pg", value: usPerDelivery(samples.socketIo) } },
    ],
    notes: [
      `fan-out: ${MESSAGES} messages per round, each sent after all have received the previous one; pushes of ${pushBytes} bytes; ` +
        "Parley's figure includes storing each message",
      ...Object.entries(samples).map(
        ([name, roundSamples]) =>
          `${name}: ${formatNumber(medianOf(roundSamples, (sample) => sample.messagesPerSecond))} messages/s, ` +
          `load ${formatNumber(medianOf(roundSamples, (sample) => sample.loadUsPerDelivery))} µs CPU/delivery`,
      ),
    ],
  };
}

async function open(
  server: Server,
  protocol: LoadTarget["protocol"],
  conversation: string,
  token = "",
): Promise<Competitor> {
  const load = startLoad("fan-out.ts");
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

function run(load: Load, messages: number): Promise<LoadResult> {
  const step: FanOutStep = { step: "run", messages };
  return load.runStep(step);
}

async function measure({ load, server }: Competitor): Promise<Sample> {
  const cpuBefore = readCpuMs(server.pid);
  const { deliveries = 0, cpuMs, elapsedMs } = await run(load, MESSAGES);
  return {
    usPerDelivery: ((readCpuMs(server.pid) - cpuBefore) * US_PER_MS) / deliveries,
    loadUsPerDelivery: (cpuMs * US_PER_MS) / deliveries,
    messagesPerSecond: (MESSAGES / elapsedMs) * 1000,
  };
}
