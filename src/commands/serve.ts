import { createApp } from "../app.ts";
import type { Tls } from "../config/tls.ts";
import { type Config, listSecrets } from "../config.ts";
import type { Database } from "../db/client.ts";
import { connectDatabase, waitForDatabase } from "../db/connect.ts";
import { migrate } from "../db/migrate.ts";
import { build } from "../lib/build.ts";
import { watchEventLoopLag } from "../lib/event-loop-lag.ts";
import { createLifecycle } from "../lib/lifecycle.ts";
import { createLog, type Log } from "../lib/log.ts";
import { createMask } from "../lib/mask-secrets.ts";
import { createMetrics, type Metrics } from "../lib/metrics.ts";
import { createServiceManager, type ServiceManager } from "../lib/service-manager.ts";
import { hasAdministrator } from "../modules/users/service.ts";
import { claimPort } from "./address.ts";
import { type Command, exitCodes, parseOptions } from "./command.ts";
import { describeFirstSteps, nameCommand, printFirstSteps } from "./first-steps.ts";
import { loadJwtSecret } from "./jwt-secret.ts";
import { listen } from "./listen.ts";
import { loadConfigWithWarnings } from "./load-config.ts";
import { setRuntimeProxies } from "./runtime-proxies.ts";
import { removeSdkHeaders } from "./sdk-environment.ts";
import { stopInOrder } from "./shutdown.ts";
import { untilAborted, type Wishes, watchProcess } from "./signals.ts";
import { hasColors } from "./terminal.ts";
import { readTls, reloadTls, tellOfCertificate } from "./tls.ts";

/** After an error that got past everything, the end may take so long. */
const CRASH_TIMEOUT_MS = 3_000;
/** After a second signal, the database gets so long to close. */
const HURRIED_CLOSE_MS = 1_000;
/** What closing the database may take after the rest has stopped: the embedded Postgres writes a checkpoint. */
const DATABASE_CLOSE_MS = 30_000;

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
    const { config, warnings } = loadConfigWithWarnings(environment);
    removeSdkHeaders(environment);
    setRuntimeProxies(environment, config);
    const tls = readTls(config);
    claimPort(config);
    const jwtSecret = loadJwtSecret(config);
    const isColored = hasColors(environment);
    const log = createLog(config.LOG_LEVEL, config.LOG_FORMAT, {
      isColored,
      maskSecrets: createMask([...listSecrets(config), jwtSecret]),
    });
    for (const warning of warnings) log.warn(warning);
    const wishes = watchProcess(log);
    const metrics = createMetrics(build);
    const manager = createServiceManager(environment, (reason) =>
      log.warn({ reason }, "systemd can't be told that Parley is ready; use Type=exec in the unit"),
    );
    const onWait = (waitMs: number) => metrics.dbPoolWait.observe(waitMs / 1_000);
    const connected = await connectDatabase(config, log, { onWait });
    try {
      await serve({ config, tls, jwtSecret, log, isColored, metrics, wishes, manager, database: connected.database });
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
  isColored: boolean;
  metrics: Metrics;
  wishes: Wishes;
  manager: ServiceManager;
  database: Database;
};

/** Serves until it is told to stop, and then comes to an end in order. */
async function serve(serving: Serving): Promise<void> {
  const { config, tls, jwtSecret, log, metrics, wishes, manager, database } = serving;
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
    let applied = 0;
    await waitForDatabase(database, log, wishes.stop, async () => {
      applied += (await migrate(database, log, { signal: wishes.stop })).length;
    });
    log.info(applied === 0 ? "database ready" : `database ready: ${applied} migrations applied`);
    await parley.start();
    lifecycle.markReady();
    manager.ready(`Parley ${build.version} is ready: ${url}`);
    await tellFirstSteps(serving, url);
  } catch (error) {
    // Told to stop while it was still starting: what it was waiting for is no error any more.
    if (!wishes.stop.aborted) throw error;
  }
  await untilAborted(wishes.stop);

  // The part `readiness` then has it drain.
  if (wishes.hasCrashed()) lifecycle.markDraining();
  else lifecycle.markLeaving();
  void untilAborted(wishes.hurry).then(lifecycle.markDraining);
  manager.stopping(config.SHUTDOWN_TIMEOUT_MS + DATABASE_CLOSE_MS);
  stopWatch();
  const stopped = wishes.hasCrashed() ? inOrder.filter(({ name }) => name === "http") : inOrder;
  const timeoutMs = wishes.hasCrashed() ? CRASH_TIMEOUT_MS : config.SHUTDOWN_TIMEOUT_MS;
  await stopInOrder(stopped, { log, timeoutMs, hurry: wishes.hurry });
  await listener.stop(true);
}

/** Says where it serves, with what, and what to do next: in one line of the log, or to people in a few. */
async function tellFirstSteps({ config, database, log, isColored }: Serving, url: string): Promise<void> {
  // Should the database fail just now, it is only not said how to become administrator.
  const isThere = await hasAdministrator(database).catch(() => true);
  const options = { url, hasAdministrator: isThere, command: nameCommand() };
  const steps = describeFirstSteps(config, options);
  const { url: base, apiReference, ...rest } = steps;
  if (config.LOG_FORMAT === "json")
    log.info(rest, `Parley ${build.version} is ready: ${base} (its API: ${apiReference})`);
  else if (log.isLevelEnabled("info")) console.log(printFirstSteps(build.version, steps, isColored));
}
