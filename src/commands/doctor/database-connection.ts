import { existsSync } from "node:fs";
import { join, resolve } from "node:path";
import pino from "pino";
import type { Config } from "../../config.ts";
import { type Database, openDatabase } from "../../db/client.ts";
import { readPostmasterFile } from "../../db/embedded/postmaster-file.ts";
import { isServerOf } from "../../db/embedded/process.ts";
import { findRunningPostgres } from "../../db/embedded.ts";
import { findDataDirProblem } from "../../lib/data-dir.ts";
import type { Log } from "../../lib/log.ts";

const POOL_SIZE = 2;

/** The database, or why it isn't available without starting something. */
export type DoctorDatabase = { database: Database; close(): Promise<void> } | { absent: string };

/** Opens the configured database. The embedded one is used only while a Parley runs it; the doctor never starts it. */
export async function openDoctorDatabase(config: Config): Promise<DoctorDatabase> {
  if (config.DATABASE_URL !== undefined) return open({ url: config.DATABASE_URL });
  if (findDataDirProblem(config.DATA_DIR) !== null) return { absent: "DATA_DIR can't be used by this user." };
  const clusterDir = join(resolve(config.DATA_DIR), "postgres");
  if (!existsSync(clusterDir)) return { absent: "No embedded database exists yet; the first start creates it." };
  const file = readPostmasterFile(clusterDir);
  if (!file || !(await isServerOf(clusterDir, file)))
    return { absent: "The embedded Postgres is not running; run this again while Parley runs to check its content." };
  const running = findRunningPostgres(config.DATA_DIR);
  if (!running) return { absent: "The embedded Postgres is starting; run this again in a moment." };
  return open(running, running.stop);
}

function open(target: Parameters<typeof openDatabase>[0]["target"], release = async () => {}): DoctorDatabase {
  const database = openDatabase({ target, poolSize: POOL_SIZE });
  return {
    database,
    async close() {
      await database.end({ timeout: 0 });
      await release();
    },
  };
}

/** A log that collects the messages of warnings, which are sentences with a remedy. */
export function createWarningCollector(): { log: Log; warnings: string[] } {
  const warnings: string[] = [];
  const write = (line: string) => void warnings.push(String((JSON.parse(line) as { msg?: unknown }).msg));
  return { log: pino({ level: "warn" }, { write }), warnings };
}
