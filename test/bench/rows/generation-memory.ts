import { register } from "../support/account.ts";
import { createTitledConversation, startParleyWith, startProvider } from "../support/answer-servers.ts";
import { readMemoryBytes } from "../support/process-usage.ts";
import type { RowReport } from "../support/report.ts";
import { medianOf, runRounds } from "../support/rounds.ts";
import type { Context } from "../support/row.ts";

/** Its second and last piece comes after the measurement. */
const MODEL = "2-600000";
/** Below the limit of concurrent answers of one instance. */
const GENERATIONS = 400;
/** The first few make the server load and compile shared code. */
const WARM_UP = 50;
const SETTLE_MS = 3_000;
const BYTES_PER_KIB = 1024;

/** Memory of an answer in progress: how much the server grows, with a model that has sent its first words. */
export async function measureGenerationMemory({ rounds, getPostgres }: Context): Promise<RowReport> {
  const postgres = await getPostgres();
  let count = 0;
  const samples = await runRounds(
    {
      parley: async () => {
        count += 1;
        // Everything is new each time: a process does not return its memory, and leftover answers would be taken over.
        const databaseUrl = await postgres.createDatabase(`generation_memory_${count}`);
        const provider = await startProvider();
        const parley = await startParleyWith({ databaseUrl, provider, models: [MODEL] });
        const { token } = await register(parley.url);
        await begin(parley.url, token, WARM_UP);
        const before = readMemoryBytes(parley.pid);
        await begin(parley.url, token, GENERATIONS - WARM_UP);
        const after = readMemoryBytes(parley.pid);
        await provider.stop();
        await parley.stop();
        const perGeneration = (bytes: number) => bytes / (GENERATIONS - WARM_UP) / BYTES_PER_KIB;
        return { rssKib: perGeneration(after.rssBytes - before.rssBytes) };
      },
    },
    rounds,
  );
  return {
    lines: [
      {
        what: "a running generation",
        unit: "KiB RSS",
        parley: medianOf(samples.parley, (sample) => sample.rssKib),
      },
    ],
    notes: [
      `running generations: growth of the server by ${GENERATIONS - WARM_UP} of them, each in a new conversation`,
    ],
  };
}

async function begin(url: string, token: string, generations: number): Promise<void> {
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
