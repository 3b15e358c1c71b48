import type { SendsStep } from "../load/sends.ts";
import { registerAccount } from "../support/account.ts";
import type { BenchmarkContext } from "../support/benchmark.ts";
import { startLoadProcess } from "../support/load.ts";
import type { BenchmarkReport } from "../support/report.ts";
import { medianBy, runRounds } from "../support/rounds.ts";
import { startParley } from "../support/servers.ts";

const CONNECTIONS = 5;
const IN_FLIGHT_PER_CONNECTION = 20;
const CONTENT_CHARS = 100;
const ROUND_MS = 4_000;
const SECRET = "the secret that both instances know: 0123456789";

/** Measures sends to one conversation over two instances, which contend for its lock, compared with one instance. */
export async function measureHotConversation({ rounds, getPostgres }: BenchmarkContext): Promise<BenchmarkReport> {
  const postgres = await getPostgres();
  const databaseUrl = await postgres.createDatabase("hot");
  const environment = { JWT_SECRET: SECRET };
  const servers = [
    await startParley({ databaseUrl, environment }),
    await startParley({ databaseUrl, environment }),
  ] as const;
  const account = await registerAccount(servers[0].url);
  const conversationId = await account.createConversation();
  const openLoad = async (url: string, connections: number) => {
    const load = startLoadProcess("sends.ts");
    const step: SendsStep = {
      step: "open",
      target: { protocol: "parley", url, token: account.token },
      conversations: Array.from({ length: connections }, () => conversationId),
      inFlight: IN_FLIGHT_PER_CONNECTION,
      contentChars: CONTENT_CHARS,
      isShared: true,
    };
    await load.runStep(step);
    return load;
  };
  const twoInstanceLoads = await Promise.all(servers.map(({ url }) => openLoad(url, CONNECTIONS)));
  const singleLoad = await openLoad(servers[0].url, CONNECTIONS * 2);
  const measureAcksPerSecond = async (loads: typeof twoInstanceLoads) => {
    await postgres.checkpoint();
    const step: SendsStep = { step: "run", durationMs: ROUND_MS };
    const results = await Promise.all(loads.map((load) => load.runStep(step)));
    return results.reduce((sum, { acks = 0, elapsedMs }) => sum + (acks / elapsedMs) * 1000, 0);
  };
  const samples = await runRounds(
    { two: () => measureAcksPerSecond(twoInstanceLoads), one: () => measureAcksPerSecond([singleLoad]) },
    rounds,
  );
  for (const load of [...twoInstanceLoads, singleLoad]) await load.stop();
  for (const server of servers) await server.stop();
  return {
    lines: [
      {
        label: "one hot conversation, two instances",
        unit: "acks/s",
        parley: medianBy(samples.two, (acksPerSecond) => acksPerSecond),
        peer: { name: "the same load on one instance", value: medianBy(samples.one, (acksPerSecond) => acksPerSecond) },
      },
    ],
    notes: [
      `one hot conversation: ${CONNECTIONS} connections to each instance with ${IN_FLIGHT_PER_CONNECTION} messages in flight, no subscribers`,
    ],
  };
}
