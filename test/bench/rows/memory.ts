import type { IdleStep } from "../load/idle.ts";
import type { Target } from "../load/session.ts";
import { register } from "../support/account.ts";
import { startLoad } from "../support/load.ts";
import { readMemoryBytes } from "../support/process-usage.ts";
import type { RowReport } from "../support/report.ts";
import { medianOf, runRounds } from "../support/rounds.ts";
import type { Context } from "../support/row.ts";
import { type Server, startBareBun, startParley } from "../support/servers.ts";

const CONNECTIONS = 5_000;
/** The first connections make the server load and compile shared code. */
const WARM_UP_CONNECTIONS = 200;
/** After this time, memory used only for the handshakes has been collected. */
const SETTLE_MS = 4_000;
const BYTES_PER_KIB = 1024;

type Sample = { rssKib: number; pssKib: number };

/** Memory of an idle, authenticated connection that has received `ready`. */
export async function measureMemory({ rounds, getPostgres }: Context): Promise<RowReport> {
  const postgres = await getPostgres();
  const databaseUrl = await postgres.createDatabase("memory");
  const samples = await runRounds(
    {
      // A new process each time, because a process that had many connections does not return all of their memory.
      parley: async () => {
        const server = await startParley({ databaseUrl });
        const { token } = await register(server.url);
        return measure(server, { dialect: "parley", url: server.url, token });
      },
      bare: async () => {
        const server = await startBareBun(1);
        return measure(server, { dialect: "bare", url: server.url, token: "" });
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

async function measure(server: Server, target: Target): Promise<Sample> {
  await hold(target, WARM_UP_CONNECTIONS, async () => {});
  await Bun.sleep(SETTLE_MS);
  const before = readMemoryBytes(server.pid);
  let after = before;
  await hold(target, CONNECTIONS, async () => {
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

async function hold(target: Target, connections: number, during: () => Promise<void>): Promise<void> {
  const load = startLoad("idle.ts");
  const step: IdleStep = { target, connections };
  await load.ask(step);
  await during();
  await load.stop();
}
