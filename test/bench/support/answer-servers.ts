import { join } from "node:path";
import { findOrDownloadNginx, writeNginxConfig } from "./nginx.ts";
import type { Server } from "./servers.ts";
import { executable } from "./servers.ts";
import { addCleanup, createTemporaryFolder, findFreePort } from "./temporary.ts";

const benchFolder = join(import.meta.dir, "..");
const peersFolder = join(benchFolder, "peers");
const START_TIMEOUT_MS = 30_000;
const POLL_INTERVAL_MS = 10;

/** Starts the mock provider (peers/provider.ts). */
export const startProvider = (): Promise<Server> =>
  startServer([process.execPath, join(peersFolder, "provider.ts")], {}, "/ready");

/** Starts the Parley executable. It uses models of the mock provider. */
export function startParleyWithModels(options: {
  databaseUrl: string;
  provider: Server;
  models: string[];
  /** Additional settings. */
  environment?: Record<string, string>;
}): Promise<Server> {
  const environment = {
    DATA_DIR: createTemporaryFolder(),
    DATABASE_URL: options.databaseUrl,
    COMPATIBLE_BASE_URL: `${options.provider.url}/v1`,
    AI_MODELS: options.models.map((model) => `compatible/${model}`).join(","),
    LOG_LEVEL: "warn",
    RATE_LIMIT_ENABLED: "false",
    ...options.environment,
  };
  return startServer([executable], environment, "/readyz", environment.DATA_DIR);
}

/** Starts the Portkey gateway. It runs on Bun, because it doesn't start on Node 20. */
export async function startPortkey(): Promise<Server> {
  const program = join(benchFolder, "node_modules/@portkey-ai/gateway/build/start-server.js");
  const command = (port: number) => [process.execPath, program, "--headless", `--port=${port}`];
  return startServer(command, { TRUSTED_CUSTOM_HOSTS: "localhost", NODE_ENV: "production" }, "/");
}

/** Starts nginx as a reverse proxy in front of the mock provider. It is the baseline for a proxy's cost. */
export function startNginx(provider: Server): Promise<Server> {
  const folder = createTemporaryFolder();
  const program = findOrDownloadNginx();
  const command = (port: number) => [
    program,
    "-e",
    "stderr",
    "-p",
    folder,
    "-c",
    writeNginxConfig({ folder, port, provider }),
  ];
  return startServer(command, {}, "/ready", folder);
}

/** Returns the p99 of the intervals between pieces that the mock provider has sent since the previous call. */
export async function fetchIntervalP99(provider: Server): Promise<{ p99Ms: number }> {
  return (await (await fetch(`${provider.url}/intervals`)).json()) as { p99Ms: number };
}

/** Creates a conversation with a title, so that no model is called to generate one. */
export async function createTitledConversation(url: string, token: string): Promise<string> {
  const response = await fetch(`${url}/api/v1/conversations`, {
    method: "POST",
    headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
    body: JSON.stringify({ title: "Bench", reply_mode: "never" }),
  });
  if (!response.ok) throw new Error(`conversation: ${response.status} ${await response.text()}`);
  return ((await response.json()) as { id: string }).id;
}

async function startServer(
  command: string[] | ((port: number) => string[]),
  environment: Record<string, string>,
  readyPath: string,
  cwd = peersFolder,
): Promise<Server> {
  const port = findFreePort();
  const url = `http://127.0.0.1:${port}`;
  const startedAtMs = performance.now();
  const child = Bun.spawn(Array.isArray(command) ? command : command(port), {
    cwd,
    env: { PATH: process.env.PATH ?? "", HOST: "127.0.0.1", PORT: String(port), ...environment },
    stdio: ["ignore", "ignore", "inherit"],
  });
  const stop = async () => {
    child.kill("SIGTERM");
    await child.exited;
  };
  addCleanup(stop);
  const isReady = () =>
    fetch(`${url}${readyPath}`).then(
      ({ ok }) => ok,
      () => false,
    );
  while (!(await isReady())) {
    if (child.exitCode !== null) throw new Error(`A server exited with ${child.exitCode}.`);
    if (performance.now() - startedAtMs > START_TIMEOUT_MS) throw new Error("A server did not become ready.");
    await Bun.sleep(POLL_INTERVAL_MS);
  }
  return { pid: child.pid, url, readyAfterMs: performance.now() - startedAtMs, stop };
}
