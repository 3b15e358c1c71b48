import { chmodSync, chownSync, existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync } from "node:fs";
import { dirname, join } from "node:path";
import { EmbeddedPostgresError } from "./error.ts";
import type { Launch, ProcessOwner } from "./launcher.ts";
import { majorVersion } from "./payload.ts";
import { describeMissingRequirement } from "./requirements.ts";
import { SUPERUSER } from "./roles.ts";
import { findReason } from "./server-log.ts";

const TEMPORARY_PREFIX = "postgres-new-";
const REMOVE_ATTEMPTS_MAX = 40;
const REMOVE_PAUSE_MS = 50;

/**
 * Creates the cluster (Postgres's data folder) if there is none. The folder has a temporary name until it is complete, so that a partial
 * cluster is never used.
 * @returns whether the cluster was created.
 * @throws EmbeddedPostgresError if the existing cluster has a different major version, or initdb fails.
 */
export async function ensureCluster(
  clusterDir: string,
  installDir: string,
  owner: ProcessOwner,
  launch: Launch,
): Promise<boolean> {
  const dataDir = dirname(clusterDir);
  for (const name of readdirSync(dataDir)) if (name.startsWith(TEMPORARY_PREFIX)) await removeTree(join(dataDir, name));
  if (existsSync(clusterDir)) {
    checkCluster(clusterDir);
    return false;
  }

  const temporaryDir = join(dataDir, `${TEMPORARY_PREFIX}${process.pid}`);
  mkdirSync(temporaryDir, { mode: 0o700 });
  chmodSync(temporaryDir, 0o700);
  if (process.getuid?.() !== owner.uid) chownSync(temporaryDir, owner.uid, owner.gid);
  await runInitdb(temporaryDir, installDir, launch);
  renameSync(temporaryDir, clusterDir);
  return true;
}

function checkCluster(clusterDir: string): void {
  const path = join(clusterDir, "PG_VERSION");
  if (!existsSync(path))
    throw new EmbeddedPostgresError(
      `${clusterDir} is not a PostgreSQL data directory; move it elsewhere, or set a different DATA_DIR.`,
    );
  const foundVersion = readFileSync(path, "utf8").trim();
  if (foundVersion !== majorVersion)
    throw new EmbeddedPostgresError(
      `${clusterDir} was created by PostgreSQL ${foundVersion}, and this version of Parley includes ${majorVersion}: run \`parley backup\` with the Parley version that created it, then \`parley restore\` into a new DATA_DIR.`,
    );
}

async function runInitdb(directory: string, installDir: string, launch: Launch): Promise<void> {
  // Uses Postgres's own collation. A system library's collation could change with an update, which would corrupt indexes.
  const args = [
    `--pgdata=${directory}`,
    `--username=${SUPERUSER}`,
    // All users who can access the socket are trusted, because only the cluster's owner can enter its folder.
    "--auth=trust",
    "--encoding=UTF8",
    "--locale=C",
    "--locale-provider=builtin",
    "--builtin-locale=C.UTF-8",
    "--data-checksums",
    "--no-instructions",
  ];
  const child = launch(join(installDir, "bin/initdb"), args, "pipe");
  let output = "";
  const collect = (chunk: Buffer) => {
    output += chunk.toString();
  };
  child.stdout?.on("data", collect);
  child.stderr?.on("data", collect);
  const code = await new Promise((resolve) => {
    child.once("error", (error) => {
      output += `error: ${error.message}`;
      resolve(null);
    });
    child.once("close", resolve);
  });
  if (code === 0) return;
  await removeTree(directory);
  const unnamedUid = /could not look up effective user ID (\d+)/.exec(output)?.[1];
  if (unnamedUid)
    throw new EmbeddedPostgresError(
      `The embedded Postgres needs a named user, and user ${unnamedUid} has no entry in /etc/passwd; start Parley as a different user (10001 in its container image), or set DATABASE_URL.`,
    );
  throw new EmbeddedPostgresError(
    describeMissingRequirement(output) ??
      `The embedded Postgres could not create its data folder: ${findReason(output) || output.trim()}`,
  );
}

/** Removes a folder. Retries while a killed Parley's initdb is still writing to it. The next start removes remaining files. */
async function removeTree(path: string): Promise<void> {
  for (let attempts = 0; existsSync(path) && attempts < REMOVE_ATTEMPTS_MAX; attempts++) {
    if (attempts > 0) await Bun.sleep(REMOVE_PAUSE_MS);
    try {
      rmSync(path, { recursive: true, force: true });
    } catch (error) {
      if (!(error instanceof Error && "code" in error && error.code === "ENOTEMPTY")) throw error;
    }
  }
}
