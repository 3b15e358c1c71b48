import { chownSync, copyFileSync } from "node:fs";
import { join } from "node:path";
import { readMemoryBytes } from "../support/process-usage.ts";
import type { RowReport } from "../support/report.ts";
import { medianOf, runRounds } from "../support/rounds.ts";
import type { Context } from "../support/row.ts";
import { executable, startBareBun, startParley } from "../support/servers.ts";
import { createTemporaryFolder } from "../support/temporary.ts";

/** The usual uid of `nobody`, for a start that doesn't find root's files of an earlier one. */
const NOBODY = 65534;

type Sample = { readyAfterMs: number; rssMib: number };

/** Start to ready: from the start of the process to the first 200 of `/readyz`. */
export async function measureStart({ rounds, getPostgres }: Context): Promise<RowReport> {
  const postgres = await getPostgres();
  const databaseUrl = await postgres.createDatabase("start");
  const asRoot = process.getuid?.() === 0;
  const createFolder = () => {
    const folder = createTemporaryFolder();
    if (asRoot) chownSync(folder, NOBODY, NOBODY);
    return folder;
  };
  const command = asRoot ? asNobody(createFolder()) : [executable];
  let dataDir = "";
  const samples = await runRounds(
    {
      server: () => measure({ databaseUrl }),
      first: () => {
        dataDir = createFolder();
        return measure({ dataDir, command });
      },
      later: () => measure({ dataDir, command }),
      bare: async () => {
        const server = await startBareBun(1);
        await server.stop();
        return server;
      },
    },
    rounds,
  );
  const readyAfterMs = (of: { readyAfterMs: number }[]) => medianOf(of, (sample) => sample.readyAfterMs);
  const line = (what: string, of: Sample[]) => ({ what, unit: "ms", parley: readyAfterMs(of) });
  return {
    lines: [
      {
        ...line("start to ready, Postgres server", samples.server),
        peer: { name: "bare Bun", value: readyAfterMs(samples.bare) },
      },
      line("start to ready, embedded, first", samples.first),
      line("start to ready, embedded, later", samples.later),
      { what: "memory when ready", unit: "MiB RSS", parley: medianOf(samples.server, (sample) => sample.rssMib) },
    ],
    notes: [
      "start: the database on the server is migrated already; a first embedded start unpacks Postgres, makes its cluster " +
        "and migrates",
    ],
  };
}

/** How `nobody` starts a copy of the executable in this folder, as it can't read the original's folder. */
function asNobody(folder: string): string[] {
  const copy = join(folder, "parley");
  copyFileSync(executable, copy);
  return ["setpriv", `--reuid=${NOBODY}`, `--regid=${NOBODY}`, "--clear-groups", copy];
}

async function measure(options: Parameters<typeof startParley>[0]): Promise<Sample> {
  const server = await startParley(options);
  const { rssBytes } = readMemoryBytes(server.pid);
  await server.stop();
  return { readyAfterMs: server.readyAfterMs, rssMib: rssBytes / 1024 / 1024 };
}
