import { existsSync } from "node:fs";
import { dirname, join } from "node:path";
import { addCleanup, createTemporaryFolder, findFreePort } from "./temporary.ts";

const repositoryFolder = dirname(dirname(dirname(import.meta.dir)));
const peersFolder = join(repositoryFolder, "test/bench/peers");
const START_TIMEOUT_MS = 30_000;
/** Interval between readiness checks. It limits the precision of the startup time. */
const POLL_INTERVAL_MS = 2;

export type Server = {
  pid: number;
  url: string;
  /** The time from the start of the process to its first successful readiness check. */
  readyAfterMs: number;
  stop(): Promise<void>;
};

type Program = { command: string[]; environment: Record<string, string>; readyPath: string; cwd?: string };

/** The executable under test. Set `PARLEY` to test a different one. */
export const executable = process.env.PARLEY ?? join(repositoryFolder, "dist/parley");

/** Starts the Parley executable. Without `databaseUrl`, it uses its embedded Postgres. */
export async function startParley(options: {
  databaseUrl?: string;
  dataDir?: string;
  /** The command that starts Parley, for example as a different user. */
  command?: string[];
  /** Additional settings. By default, rate limits are off. */
  environment?: Record<string, string>;
}): Promise<Server> {
  if (!existsSync(executable)) throw new Error(`${executable} is missing; run \`make build\`.`);
  const dataDir = options.dataDir ?? createTemporaryFolder();
  const { databaseUrl } = options;
  return startServer({
    command: options.command ?? [executable],
    environment: {
      DATA_DIR: dataDir,
      RATE_LIMIT_ENABLED: "false",
      ...(databaseUrl && { DATABASE_URL: databaseUrl }),
      ...options.environment,
    },
    readyPath: "/readyz",
    cwd: dataDir,
  });
}

/** Starts a Socket.IO server on Node, which stores messages with `pg`. With `redisUrl`, it uses the Redis adapter. */
export const startSocketIo = (databaseUrl: string, poolSize: number, redisUrl?: string): Promise<Server> =>
  startServer({
    command: ["node", join(peersFolder, "socket-io-pg.mjs")],
    environment: {
      DATABASE_URL: databaseUrl,
      POOL_SIZE: String(poolSize),
      NODE_ENV: "production",
      ...(redisUrl && { REDIS_URL: redisUrl }),
    },
    readyPath: "/ready",
  });

/** Starts a bare `Bun.serve` that reads a user's preferences from Parley's table. */
export const startBarePostgres = (options: {
  databaseUrl: string;
  poolSize: number;
  userId: string;
}): Promise<Server> =>
  startServer({
    command: [process.execPath, join(peersFolder, "bare-postgres.ts")],
    environment: {
      DATABASE_URL: options.databaseUrl,
      POOL_SIZE: String(options.poolSize),
      USER_ID: options.userId,
    },
    readyPath: "/ready",
  });

/** Starts a bare `Bun.serve` that publishes frames of this size. */
export const startBareBun = (frameBytes: number): Promise<Server> =>
  startServer({
    command: [process.execPath, join(peersFolder, "bare-bun.ts")],
    environment: { FRAME_BYTES: String(frameBytes) },
    readyPath: "/ready",
  });

async function startServer({ command, environment, readyPath, cwd = repositoryFolder }: Program): Promise<Server> {
  const port = findFreePort();
  const url = `http://127.0.0.1:${port}`;
  const startedAtMs = performance.now();
  const child = Bun.spawn(command, {
    cwd,
    // The measurement must not depend on the rest of this environment.
    env: { PATH: process.env.PATH ?? "", HOST: "127.0.0.1", PORT: String(port), ...environment },
    stdio: ["ignore", "ignore", "inherit"],
  });
  const stop = async () => {
    child.kill("SIGTERM");
    await child.exited;
  };
  addCleanup(stop);
  while (!(await isReady(`${url}${readyPath}`))) {
    if (child.exitCode !== null) throw new Error(`${command[0]} exited with ${child.exitCode}.`);
    if (performance.now() - startedAtMs > START_TIMEOUT_MS) throw new Error(`${command[0]} did not become ready.`);
    await Bun.sleep(POLL_INTERVAL_MS);
  }
  return { pid: child.pid, url, readyAfterMs: performance.now() - startedAtMs, stop };
}

async function isReady(url: string): Promise<boolean> {
  try {
    return (await fetch(url)).ok;
  } catch {
    return false;
  }
}
