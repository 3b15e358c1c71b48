import type { Config } from "../config.ts";
import type { Database } from "../db/client.ts";
import { connectDatabase } from "../db/connect.ts";
import { prepareSession } from "../db/session-check.ts";
import type { Log } from "../lib/log.ts";

/**
 * Runs `work` with the configured database, and closes the connection afterwards. If another Parley process is already running
 * the embedded Postgres, connects to it, or fails if `canUseRunningPostgres` is false.
 */
export async function withDatabase<T>(
  config: Config,
  log: Log,
  work: (database: Database) => Promise<T>,
  { canUseRunningPostgres = true }: { canUseRunningPostgres?: boolean } = {},
): Promise<T> {
  const connection = await connectDatabase(config, log, { canUseRunningPostgres });
  try {
    await prepareSession(connection.database, log);
    return await work(connection.database);
  } finally {
    await connection.close();
  }
}
