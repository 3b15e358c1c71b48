import { createApp } from "../app.ts";
import type { Tls } from "../config/tls.ts";
import type { Config } from "../config.ts";
import type { Database } from "../db/client.ts";
import { connectDatabase, waitForDatabase } from "../db/connect.ts";
import { migrate } from "../db/migrate.ts";
import { build } from "../lib/build.ts";
import { watchEventLoopLag } from "../lib/event-loop-lag.ts";
import { createLifecycle } from "../lib/lifecycle.ts";
import { createLog, type Log } from "../lib/log.ts";
import { createMetrics } from "../lib/metrics.ts";
import { claimPort } from "./address.ts";
import { type Command, exitCodes, parseOptions } from "./command.ts";
import { loadJwtSecret } from "./jwt-secret.ts";
import { listen } from "./listen.ts";
import { loadConfigFrom } from "./load-config.ts";
import { stopInOrder } from "./shutdown.ts";
import { untilAborted, type Wishes, watchProcess } from "./signals.ts";
import { readTls, reloadTls, tellOfCertificate } from "./tls.ts";

/** After an error that got past everything, the end may take so long. */
const CRASH_TIMEOUT_MS = 3_000;
/** After a second signal, the database gets so long to close. */
const HURRIED_CLOSE_MS = 1_000;

export const serveCommand: Command = {
  name: "serve",
  summary: "migrate the database, then serve (also without a command)",
  help: `Usage: parley serve
       parley

Migrates the database, then serves. Without any configuration: an embedded Postgres in ./data, port 3000.
Settings come from the environment; .env.example names them all, \`parley config\` shows the effective ones.

SIGTERM and SIGINT stop in order: no new work, answers end, sockets are told to reconnect (at most SHUTDOWN_TIMEOUT_MS);
a second signal stops at once. SIGHUP reads the certificate again (TLS_CERT_FILE, TLS_KEY_FILE); connections stay.`,

  async run(args, environment) {
    parseOptions("serve", args, {});
    const config = loadConfigFrom(environment);
    const tls = readTls(config);
    claimPort(config);
    const jwtSecret = loadJwtSecret(config);
    const log = createLog(config.LOG_LEVEL, config.LOG_FORMAT);
    const wishes = watchProcess(log);
    const connected = await connectDatabase(config, log);
    try {
      await serve({ config, tls, jwtSecret, log, wishes, database: connected.database });
    } finally {
      const hurried = untilAborted(wishes.hurry).then(() => Bun.sleep(HURRIED_CLOSE_MS));
      await Promise.race([connected.close(), hurried]);
    }
    log.info("stopped");
    return wishes.hasCrashed() || wishes.hurry.aborted ? exitCodes.failure : exitCodes.success;
  },
};

type Serving = {
  config: Config;
  tls: Tls | undefined;
  jwtSecret: string;
  log: Log;
  wishes: Wishes;
  database: Database;
};

/** Serves until it is told to stop, and then comes to an end in order. */
async function serve({ config, tls, jwtSecret, log, wishes, database }: Serving): Promise<void> {
  const metrics = createMetrics(build);
  const lifecycle = createLifecycle();
  const parley = createApp({ config, database, log, metrics, lifecycle, jwtSecret });
  // Listens before the database is there: /livez answers 200, /readyz and the API 503.
  const listener = listen(parley, config, tls);
  parley.attach(listener);
  const url = config.PUBLIC_URL ?? `${tls ? "https" : "http"}://localhost:${listener.port}`;
  log.info({ address: `${config.HOST}:${listener.port}`, version: build.version }, "listening");
  if (tls) tellOfCertificate(tls, log, metrics);
  wishes.onHangup(() => reloadTls({ config, listener, log, metrics }));
  const stopWatch = watchEventLoopLag((lagS) => metrics.eventLoopLag.observe(lagS));

  const { parts } = parley;
  parts.add({ name: "http", after: ["streams", "jobs"], stop: () => listener.stop(false) });
  const inOrder = parts.list();
  try {
    // It may go away in between.
    await waitForDatabase(database, log, wishes.stop, () => migrate(database, log, { signal: wishes.stop }));
    await parley.start();
    lifecycle.markReady();
    log.info(`Parley ${build.version} is ready: ${url} (its API: ${url}/swagger)`);
  } catch (error) {
    // Told to stop while it was still starting: what it was waiting for is no error any more.
    if (!wishes.stop.aborted) throw error;
  }
  await untilAborted(wishes.stop);

  lifecycle.markDraining();
  stopWatch();
  const stopped = wishes.hasCrashed() ? inOrder.filter(({ name }) => name === "http") : inOrder;
  const timeoutMs = wishes.hasCrashed() ? CRASH_TIMEOUT_MS : config.SHUTDOWN_TIMEOUT_MS;
  await stopInOrder(stopped, { log, timeoutMs, hurry: wishes.hurry });
  await listener.stop(true);
}
