import type { WatchersStep } from "../load/watchers.ts";
import { registerAccount } from "../support/account.ts";
import { createTitledConversation, startParleyWithModels, startProvider } from "../support/answer-servers.ts";
import type { BenchmarkContext } from "../support/benchmark.ts";
import { startLoadProcess } from "../support/load.ts";
import { readCpuMs } from "../support/process-usage.ts";
import { type BenchmarkReport, formatNumber } from "../support/report.ts";
import { medianBy, runRounds } from "../support/rounds.ts";

const MODEL = "50-20";
const CONVERSATIONS = 50;
const WATCHERS = 10;
const ANSWERS_PER_CONVERSATION = 3;
/** Interval between the first requests, so that the answers aren't synchronized. */
const INTERVAL_MS = 20;
const MS_PER_S = 1_000;

/** Measures the delivery of deltas to many watchers per answer, in deliveries per second of the server's CPU time. */
export async function measureWatchers({ rounds, getPostgres }: BenchmarkContext): Promise<BenchmarkReport> {
  const postgres = await getPostgres();
  const provider = await startProvider();
  const databaseUrl = await postgres.createDatabase("watchers");
  const parley = await startParleyWithModels({ databaseUrl, provider, models: [MODEL] });
  const { token } = await registerAccount(parley.url);
  const conversations: string[] = [];
  while (conversations.length < CONVERSATIONS) conversations.push(await createTitledConversation(parley.url, token));
  const load = startLoadProcess("watchers.ts");
  const runStep = (step: WatchersStep) => load.runStep(step);
  await runStep({
    step: "open",
    target: { protocol: "parley", url: parley.url.replace("http", "ws"), token },
    conversations,
    watchers: WATCHERS,
  });
  const samples = await runRounds(
    {
      parley: async () => {
        const cpuBeforeMs = readCpuMs(parley.pid);
        const { deltas = 0, answers = 1 } = await runStep({
          step: "run",
          answersPerConversation: ANSWERS_PER_CONVERSATION,
          intervalMs: INTERVAL_MS,
        });
        const cpuMs = readCpuMs(parley.pid) - cpuBeforeMs;
        return {
          perCpuSecond: (deltas / cpuMs) * MS_PER_S,
          perAnswer: deltas / answers / WATCHERS,
          cpuMs: cpuMs / answers,
        };
      },
    },
    rounds,
  );
  await load.stop();
  await parley.stop();
  await provider.stop();
  return {
    lines: [
      {
        label: `deltas to ${WATCHERS} watchers of each answer`,
        unit: "deliveries/CPU s",
        parley: medianBy(samples.parley, (sample) => sample.perCpuSecond),
      },
    ],
    notes: [
      `watchers: ${CONVERSATIONS} conversations at a time, ${WATCHERS} connections each; each watcher received ` +
        `${formatNumber(medianBy(samples.parley, (sample) => sample.perAnswer))} deltas for 50 pieces sent 20 ms apart; an answer cost ` +
        `${formatNumber(medianBy(samples.parley, (sample) => sample.cpuMs))} ms CPU, including the model request and storing it`,
    ],
  };
}
