import { existsSync } from "node:fs";
import { join, resolve } from "node:path";
import pino from "pino";
import type { Config } from "../../config.ts";
import { type Database, openDatabase } from "../../db/client.ts";
import { readPostmasterFile } from "../../db/embedded/postmaster-file.ts";
import { isClusterServer } from "../../db/embedded/process.ts";
import { findRunningPostgres } from "../../db/embedded.ts";
import { findDataDirProblem } from "../../lib/data-dir.ts";
import type { Log } from "../../lib/log.ts";

const POOL_SIZE = 2;

/** A connection to the database, or the reason why the doctor can't connect. */
export type DoctorDatabase = { database: Database; close(): Promise<void> } | { unavailableReason: string };

/** Connects to the configured database. The doctor never starts the embedded Postgres; it connects only if Parley runs it. */
export async function openDoctorDatabase(config: Config): Promise<DoctorDatabase> {
  if (config.DATABASE_URL !== undefined) return connect({ url: config.DATABASE_URL });
  if (findDataDirProblem(config.DATA_DIR) !== null)
    return { unavailableReason: "DATA_DIR can't be used by this user." };
  const clusterDir = join(resolve(config.DATA_DIR), "postgres");
  if (!existsSync(clusterDir))
    return { unavailableReason: "No embedded database exists yet; the first start creates it." };
  const postmasterFile = readPostmasterFile(clusterDir);
  if (!postmasterFile || !(await isClusterServer(clusterDir, postmasterFile)))
    return {
      unavailableReason: "The embedded Postgres is not running; start Parley and run this again to check the database.",
    };
  const runningPostgres = findRunningPostgres(config.DATA_DIR);
  if (!runningPostgres) return { unavailableReason: "The embedded Postgres is starting; run this again in a moment." };
  return connect(runningPostgres, runningPostgres.stop);
}

function connect(target: Parameters<typeof openDatabase>[0]["target"], release = async () => {}): DoctorDatabase {
  const database = openDatabase({ target, poolSize: POOL_SIZE });
  return {
    database,
    async close() {
      await database.end({ timeout: 0 });
      await release();
    },
  };
}

/** Creates a log that collects the messages of its warnings. */
export function createWarningCollector(): { log: Log; warnings: string[] } {
  const warnings: string[] = [];
  const write = (line: string) => void warnings.push(String((JSON.parse(line) as { msg?: unknown }).msg));
  return { log: pino({ level: "warn" }, { write }), warnings };
}
