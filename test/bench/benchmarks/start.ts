import { chownSync, copyFileSync } from "node:fs";
import { join } from "node:path";
import type { BenchmarkContext } from "../support/benchmark.ts";
import { readMemoryBytes } from "../support/process-usage.ts";
import type { BenchmarkReport } from "../support/report.ts";
import { medianBy, runRounds } from "../support/rounds.ts";
import { executable, startBareBun, startParley } from "../support/servers.ts";
import { createTemporaryFolder } from "../support/temporary.ts";

/** The usual uid of `nobody`. Unlike root, it has no Postgres files from an earlier start. */
const NOBODY = 65534;

type Sample = { readyAfterMs: number; rssMib: number };

/** Measures the time from the start of the process to the first 200 from `/readyz`. */
export async function measureStart({ rounds, getPostgres }: BenchmarkContext): Promise<BenchmarkReport> {
  const postgres = await getPostgres();
  const databaseUrl = await postgres.createDatabase("start");
  const isRoot = process.getuid?.() === 0;
  const createFolder = () => {
    const folder = createTemporaryFolder();
    if (isRoot) chownSync(folder, NOBODY, NOBODY);
    return folder;
  };
  const command = isRoot ? createNobodyCommand(createFolder()) : [executable];
  let dataDir = "";
  const samples = await runRounds(
    {
      server: () => measureStartup({ databaseUrl }),
      first: () => {
        dataDir = createFolder();
        return measureStartup({ dataDir, command });
      },
      later: () => measureStartup({ dataDir, command }),
      bare: async () => {
        const server = await startBareBun(1);
        await server.stop();
        return server;
      },
    },
    rounds,
  );
  const getMedianReadyAfterMs = (roundSamples: { readyAfterMs: number }[]) =>
    medianBy(roundSamples, (sample) => sample.readyAfterMs);
  const createLine = (label: string, roundSamples: Sample[]) => ({
    label,
    unit: "ms",
    parley: getMedianReadyAfterMs(roundSamples),
  });
  return {
    lines: [
      {
        ...createLine("start to ready, Postgres server", samples.server),
        peer: { name: "bare Bun", value: getMedianReadyAfterMs(samples.bare) },
      },
      createLine("start to ready, embedded, first", samples.first),
      createLine("start to ready, embedded, later", samples.later),
      { label: "memory when ready", unit: "MiB RSS", parley: medianBy(samples.server, (sample) => sample.rssMib) },
    ],
    notes: [
      "start: the database on the Postgres server has already been migrated; a first embedded start unpacks Postgres, creates its cluster " +
        "and migrates",
    ],
  };
}

/** Returns a command with which `nobody` starts a copy of the executable. `nobody` can't read the original. */
function createNobodyCommand(folder: string): string[] {
  const copy = join(folder, "parley");
  copyFileSync(executable, copy);
  return ["setpriv", `--reuid=${NOBODY}`, `--regid=${NOBODY}`, "--clear-groups", copy];
}

async function measureStartup(options: Parameters<typeof startParley>[0]): Promise<Sample> {
  const server = await startParley(options);
  const { rssBytes } = readMemoryBytes(server.pid);
  await server.stop();
  return { readyAfterMs: server.readyAfterMs, rssMib: rssBytes / 1024 / 1024 };
}
