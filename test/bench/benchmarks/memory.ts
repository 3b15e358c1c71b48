import type { IdleStep } from "../load/idle.ts";
import type { LoadTarget } from "../load/session.ts";
import { register } from "../support/account.ts";
import type { BenchmarkContext } from "../support/benchmark.ts";
import { startLoad } from "../support/load.ts";
import { readMemoryBytes } from "../support/process-usage.ts";
import type { BenchmarkReport } from "../support/report.ts";
import { medianOf, runRounds } from "../support/rounds.ts";
import { type Server, startBareBun, startParley } from "../support/servers.ts";

const CONNECTIONS = 5_000;
/** The number of unmeasured first connections, which make the server load and compile shared code. */
const WARM_UP_CONNECTIONS = 200;
/** After this time, memory from the handshakes has been garbage-collected. */
const SETTLE_MS = 4_000;
const BYTES_PER_KIB = 1024;

type Sample = { rssKib: number; pssKib: number };

/** Measures the memory of an idle, authenticated connection that has received `ready`. */
export async function measureMemory({ rounds, getPostgres }: BenchmarkContext): Promise<BenchmarkReport> {
  const postgres = await getPostgres();
  const databaseUrl = await postgres.createDatabase("memory");
  const samples = await runRounds(
    {
      // Each round has a new process, because a process doesn't release all of its connections' memory.
      parley: async () => {
        const server = await startParley({ databaseUrl });
        const { token } = await register(server.url);
        return measure(server, { protocol: "parley", url: server.url, token });
      },
      bare: async () => {
        const server = await startBareBun(1);
        return measure(server, { protocol: "bare", url: server.url, token: "" });
      },
    },
    rounds,
  );
  const line = (what: string, read: (sample: Sample) => number) => ({
    what,
    unit: "KiB",
    parley: medianOf(samples.parley, read),
    peer: { name: "bare Bun", value: medianOf(samples.bare, read) },
  });
  return {
    lines: [
      line("idle connection, RSS", (sample) => sample.rssKib),
      line("idle connection, PSS", (sample) => sample.pssKib),
    ],
    notes: [
      `idle connections: ${CONNECTIONS} of one user, growth of the server process after ${SETTLE_MS / 1000} s; ` +
        "without the kernel's socket buffers",
    ],
  };
}

async function measure(server: Server, target: LoadTarget): Promise<Sample> {
  await withConnections(target, WARM_UP_CONNECTIONS, async () => {});
  await Bun.sleep(SETTLE_MS);
  const before = readMemoryBytes(server.pid);
  let after = before;
  await withConnections(target, CONNECTIONS, async () => {
    await Bun.sleep(SETTLE_MS);
    after = readMemoryBytes(server.pid);
  });
  await server.stop();
  const perConnection = (bytes: number) => bytes / CONNECTIONS / BYTES_PER_KIB;
  return {
    rssKib: perConnection(after.rssBytes - before.rssBytes),
    pssKib: perConnection(after.pssBytes - before.pssBytes),
  };
}

async function withConnections(target: LoadTarget, connections: number, during: () => Promise<void>): Promise<void> {
  const load = startLoad("idle.ts");
  const step: IdleStep = { target, connections };
  await load.runStep(step);
  await during();
  await load.stop();
}
