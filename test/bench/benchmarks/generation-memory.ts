import { registerAccount } from "../support/account.ts";
import { createTitledConversation, startParleyWithModels, startProvider } from "../support/answer-servers.ts";
import type { BenchmarkContext } from "../support/benchmark.ts";
import { readMemoryBytes } from "../support/process-usage.ts";
import type { BenchmarkReport } from "../support/report.ts";
import { medianBy, runRounds } from "../support/rounds.ts";

/** A model that sends its second and last piece after the measurement. */
const MODEL = "2-600000";
/** The total number of answers. It must be below the limit on concurrent answers per instance. */
const GENERATIONS = 400;
/** The number of unmeasured first answers, which make the server load and compile shared code. */
const WARM_UP = 50;
const SETTLE_MS = 3_000;
const BYTES_PER_KIB = 1024;

/** Measures the memory of an answer in progress, after its first piece. */
export async function measureGenerationMemory({ rounds, getPostgres }: BenchmarkContext): Promise<BenchmarkReport> {
  const postgres = await getPostgres();
  let count = 0;
  const samples = await runRounds(
    {
      parley: async () => {
        count += 1;
        // Each round has a new process, because a process doesn't release its memory. It also has a new database,
        // because otherwise the new process would resume the answers of the previous round.
        const databaseUrl = await postgres.createDatabase(`generation_memory_${count}`);
        const provider = await startProvider();
        const parley = await startParleyWithModels({ databaseUrl, provider, models: [MODEL] });
        const { token } = await registerAccount(parley.url);
        await startGenerations(parley.url, token, WARM_UP);
        const memoryBefore = readMemoryBytes(parley.pid);
        await startGenerations(parley.url, token, GENERATIONS - WARM_UP);
        const memoryAfter = readMemoryBytes(parley.pid);
        await provider.stop();
        await parley.stop();
        const toKibPerGeneration = (bytes: number) => bytes / (GENERATIONS - WARM_UP) / BYTES_PER_KIB;
        return { rssKib: toKibPerGeneration(memoryAfter.rssBytes - memoryBefore.rssBytes) };
      },
    },
    rounds,
  );
  return {
    lines: [
      {
        label: "a running generation",
        unit: "KiB RSS",
        parley: medianBy(samples.parley, (sample) => sample.rssKib),
      },
    ],
    notes: [
      `running generations: the server's growth with ${GENERATIONS - WARM_UP} generations, each in a new conversation`,
    ],
  };
}

async function startGenerations(url: string, token: string, generations: number): Promise<void> {
  for (let n = 0; n < generations; n += 1) {
    const id = await createTitledConversation(url, token);
    const response = await fetch(`${url}/api/v1/conversations/${id}/messages`, {
      method: "POST",
      headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
      body: JSON.stringify({ content: "Tell me a very long story.", reply: true }),
    });
    if (!response.ok) throw new Error(`message: ${response.status} ${await response.text()}`);
  }
  await Bun.sleep(SETTLE_MS);
}
