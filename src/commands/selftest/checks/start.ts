import { openDatabase } from "../../../db/client.ts";
import { findRunningPostgres } from "../../../db/embedded.ts";
import type { Check } from "../check.ts";
import { formatMs } from "../measurements.ts";

/** Postgres settings that make commits survive a crash and damaged pages detectable. */
const durabilitySettings = ["fsync", "full_page_writes", "synchronous_commit", "data_checksums"];

export const startCheck: Check = {
  name: "start",
  claim: "Starts from an empty folder with its own Postgres, and every commit is synced to disk.",
  timeoutMs: 50_000,

  async run(context) {
    const { sandbox, provider } = context;
    const server = await sandbox.start({ dataDir: sandbox.addDataDir(), settings: provider.settings });
    context.server = server;
    const [ada, ben, outsider] = await Promise.all([
      server.rest.register("ada"),
      server.rest.register("ben"),
      server.rest.register("outsider"),
    ]);
    context.users = { ada, ben, outsider };
    const durability = await readDurabilitySettings(server.dataDir);
    const problems = durabilitySettings
      .filter((name) => durability[name] !== "on")
      .map((name) => `expected ${name} to be on in Postgres, but got ${durability[name] ?? "nothing"}`);
    return {
      summary: `ready after ${formatMs(server.readyMs)}; ${problems.length === 0 ? `${durabilitySettings.join(", ")}: on` : "not durable"}`,
      measured: { ready_ms: Math.round(server.readyMs), ...durability },
      problems,
    };
  },
};

/** Reads the settings from the server's Postgres, over a connection like Parley's. */
async function readDurabilitySettings(dataDir: string): Promise<Record<string, string>> {
  const postgres = findRunningPostgres(dataDir);
  if (postgres === null) throw new Error("expected the embedded Postgres to be running, but it isn't");
  const database = openDatabase({ target: postgres, poolSize: 1 });
  try {
    const rows = await database<{ name: string; setting: string }[]>`
      select name, setting from pg_settings where name = any(${durabilitySettings})`;
    return Object.fromEntries(rows.map(({ name, setting }) => [name, setting]));
  } finally {
    await database.end({ timeout: 1 });
    await postgres.stop();
  }
}
