import type { SendsStep } from "../load/sends.ts";
import { register } from "../support/account.ts";
import { startLoad } from "../support/load.ts";
import type { RowReport } from "../support/report.ts";
import { medianOf, runRounds } from "../support/rounds.ts";
import type { Context } from "../support/row.ts";
import { startParley } from "../support/servers.ts";

const CONNECTIONS = 5;
const IN_FLIGHT_PER_CONNECTION = 20;
const CONTENT_CHARS = 100;
const ROUND_MS = 4_000;
const SECRET = "the secret that both instances know: 0123456789";

/** All users write to one conversation: through two instances, which contend for its lock, and through one. */
export async function measureHotConversation({ rounds, getPostgres }: Context): Promise<RowReport> {
  const postgres = await getPostgres();
  const databaseUrl = await postgres.createDatabase("hot");
  const environment = { JWT_SECRET: SECRET };
  const servers = [
    await startParley({ databaseUrl, environment }),
    await startParley({ databaseUrl, environment }),
  ] as const;
  const account = await register(servers[0].url);
  const hot = await account.createConversation();
  const open = async (url: string, connections: number) => {
    const load = startLoad("sends.ts");
    const step: SendsStep = {
      step: "open",
      target: { dialect: "parley", url, token: account.token },
      conversations: Array.from({ length: connections }, () => hot),
      inFlight: IN_FLIGHT_PER_CONNECTION,
      contentChars: CONTENT_CHARS,
      isShared: true,
    };
    await load.ask(step);
    return load;
  };
  const both = await Promise.all(servers.map(({ url }) => open(url, CONNECTIONS)));
  const alone = await open(servers[0].url, CONNECTIONS * 2);
  const run = async (loads: typeof both) => {
    await postgres.checkpoint();
    const step: SendsStep = { step: "run", durationMs: ROUND_MS };
    const results = await Promise.all(loads.map((load) => load.ask(step)));
    return results.reduce((sum, { acks = 0, elapsedMs }) => sum + (acks / elapsedMs) * 1000, 0);
  };
  const samples = await runRounds({ two: () => run(both), one: () => run([alone]) }, rounds);
  for (const load of [...both, alone]) await load.stop();
  for (const server of servers) await server.stop();
  return {
    lines: [
      {
        what: "one hot conversation, two instances",
        unit: "acks/s",
        parley: medianOf(samples.two, (perSecond) => perSecond),
        peer: { name: "the same load by one instance", value: medianOf(samples.one, (perSecond) => perSecond) },
      },
    ],
    notes: [
      `one hot conversation: ${CONNECTIONS} connections to each instance with ${IN_FLIGHT_PER_CONNECTION} messages in flight, nobody listens`,
    ],
  };
}
