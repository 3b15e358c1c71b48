import type { IdleStep } from "../load/idle.ts";
import type { LoadTarget } from "../load/session.ts";
import { registerAccount } from "../support/account.ts";
import type { BenchmarkContext } from "../support/benchmark.ts";
import { startLoadProcess } from "../support/load.ts";
import { readMemoryBytes } from "../support/process-usage.ts";
import type { BenchmarkReport } from "../support/report.ts";
import { medianBy, runRounds } from "../support/rounds.ts";
import { type Server, startBareBun, startParley } from "../support/servers.ts";

const CONNECTIONS = 5_000;
/** The number of unmeasured first connections, which make the server load and compile shared code. */
const WARM_UP_CONNECTIONS = 200;
/** Time until the memory of the handshakes has been garbage-collected. */
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
        const { token } = await registerAccount(server.url);
        return measureConnections(server, { protocol: "parley", url: server.url, token });
      },
      bare: async () => {
        const server = await startBareBun(1);
        return measureConnections(server, { protocol: "bare", url: server.url, token: "" });
      },
    },
    rounds,
  );
  const createLine = (label: string, getValue: (sample: Sample) => number) => ({
    label,
    unit: "KiB",
    parley: medianBy(samples.parley, getValue),
    peer: { name: "bare Bun", value: medianBy(samples.bare, getValue) },
  });
  return {
    lines: [
      createLine("idle connection, RSS", (sample) => sample.rssKib),
      createLine("idle connection, PSS", (sample) => sample.pssKib),
    ],
    notes: [
      `idle connections: ${CONNECTIONS} of one user, growth of the server process after ${SETTLE_MS / 1000} s; ` +
        "without the kernel's socket buffers",
    ],
  };
}

async function measureConnections(server: Server, target: LoadTarget): Promise<Sample> {
  await runWithConnections(target, WARM_UP_CONNECTIONS, async () => {});
  await Bun.sleep(SETTLE_MS);
  const memoryBefore = readMemoryBytes(server.pid);
  let memoryAfter = memoryBefore;
  await runWithConnections(target, CONNECTIONS, async () => {
    await Bun.sleep(SETTLE_MS);
    memoryAfter = readMemoryBytes(server.pid);
  });
  await server.stop();
  const toKibPerConnection = (bytes: number) => bytes / CONNECTIONS / BYTES_PER_KIB;
  return {
    rssKib: toKibPerConnection(memoryAfter.rssBytes - memoryBefore.rssBytes),
    pssKib: toKibPerConnection(memoryAfter.pssBytes - memoryBefore.pssBytes),
  };
}

async function runWithConnections(
  target: LoadTarget,
  connections: number,
  whileConnected: () => Promise<void>,
): Promise<void> {
  const load = startLoadProcess("idle.ts");
  const step: IdleStep = { target, connections };
  await load.runStep(step);
  await whileConnected();
  await load.stop();
}
