import { join } from "node:path";
import { readPostmasterFile } from "../../db/embedded/postmaster-file.ts";
import { isServerOf } from "../../db/embedded/process.ts";
import { type Child, quoteLog } from "./child.ts";
import { createRest, type Rest } from "./rest.ts";

export type StartOptions = {
  dataDir: string;
  settings: Record<string, string>;
  /** The port; absent: a free one. */
  port?: number;
};

/** A running `parley serve`. */
export type ServerProcess = {
  readonly url: string;
  readonly port: number;
  readonly dataDir: string;
  readonly rest: Rest;
  /** From the start of the process until `/readyz` returned 200. */
  readonly readyMs: number;
  /** Kills the server and its Postgres with SIGKILL at the same time, like a crash of the machine. */
  kill(): Promise<void>;
  /** Sends SIGTERM, and waits until the server has exited. */
  stop(): Promise<{ code: number | string; tookMs: number }>;
};

type Spawn = (args: readonly string[], settings: Record<string, string>) => Child;

const START_TIMEOUT_MS = 45_000;
const POLL_MS = 10;

/** Starts a server and waits until it is ready. @throws Error if it exits or doesn't become ready. */
export async function startServer(spawn: Spawn, { dataDir, settings, port = 0 }: StartOptions): Promise<ServerProcess> {
  const startedAtMs = performance.now();
  const child = spawn(["serve"], { HOST: "127.0.0.1", PORT: String(port), DATA_DIR: dataDir, ...settings });
  const bound = await poll(child, () => /"address":"127\.0\.0\.1:(\d+)"/.exec(child.readLog())?.[1]);
  const url = `http://127.0.0.1:${bound}`;
  const rest = createRest(url);
  await poll(child, async () => ((await rest.call("/readyz")).status === 200 ? true : undefined));
  const readyMs = performance.now() - startedAtMs;

  return {
    url,
    port: Number(bound),
    dataDir,
    rest,
    readyMs,

    async kill() {
      const clusterDir = join(dataDir, "postgres");
      const postgres = readPostmasterFile(clusterDir);
      const isOwn = postgres !== null && (await isServerOf(clusterDir, postgres));
      child.kill("SIGKILL");
      if (isOwn) process.kill(postgres.pid, "SIGKILL");
      await child.exited;
    },

    async stop() {
      const stoppedAtMs = performance.now();
      child.kill("SIGTERM");
      return { code: await child.exited, tookMs: performance.now() - stoppedAtMs };
    },
  };
}

async function poll<T>(child: Child, probe: () => Promise<T | undefined> | T | undefined): Promise<T> {
  const deadlineMs = performance.now() + START_TIMEOUT_MS;
  for (;;) {
    const seen = await probe();
    if (seen !== undefined) return seen;
    if (!child.isRunning())
      throw new Error(`expected a server, but it ended with ${await child.exited}: ${quoteLog(child)}`);
    if (performance.now() > deadlineMs)
      throw new Error(`expected a server to be ready within ${START_TIMEOUT_MS / 1_000} s: ${quoteLog(child)}`);
    await Bun.sleep(POLL_MS);
  }
}
