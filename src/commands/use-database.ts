import type { Config } from "../config.ts";
import type { Database } from "../db/client.ts";
import { connectDatabase } from "../db/connect.ts";
import { prepareSession } from "../db/session-check.ts";
import type { Log } from "../lib/log.ts";

/**
 * Runs `work` with the configured database, and closes the database afterwards. If a running Parley has started the embedded
 * Postgres, `work` uses that one with `canJoin`, and fails without it.
 */
export async function useDatabase<T>(
  config: Config,
  log: Log,
  work: (database: Database) => Promise<T>,
  { canJoin = true }: { canJoin?: boolean } = {},
): Promise<T> {
  const connected = await connectDatabase(config, log, { canJoin });
  try {
    await prepareSession(connected.database, log);
    return await work(connected.database);
  } finally {
    await connected.close();
  }
}
