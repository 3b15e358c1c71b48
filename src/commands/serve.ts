import { createApp } from "../app.ts";
import type { Tls } from "../config/tls.ts";
import { findTracesUrl } from "../config/tracing.ts";
import { type Config, listSecrets } from "../config.ts";
import type { Database } from "../db/client.ts";
import { connectDatabase, waitForDatabase } from "../db/connect.ts";
import { migrate } from "../db/migrate.ts";
import { build } from "../lib/build.ts";
import { watchEventLoopLag } from "../lib/event-loop-lag.ts";
import { createLifecycle } from "../lib/lifecycle.ts";
import { createLog, type Log } from "../lib/log.ts";
import { createSecretMasker } from "../lib/mask-secrets.ts";
import { createMetrics, type Metrics } from "../lib/metrics.ts";
import { createServiceManager, type ServiceManager } from "../lib/service-manager.ts";
import type { RunningTracing } from "../lib/tracing/start-tracing.ts";
import type { Tracing } from "../lib/tracing/tracing.ts";
import { hasAdministrator } from "../modules/users/service.ts";
import { checkPortIsFree } from "./address.ts";
import { type Command, exitCodes, parseOptions } from "./command.ts";
import { describeFirstSteps, findOwnCommand, formatFirstSteps } from "./first-steps.ts";
import { loadJwtSecret } from "./jwt-secret.ts";
import { listen } from "./listen.ts";
import { loadConfigWithWarnings } from "./load-config.ts";
import { setRuntimeProxies } from "./runtime-proxies.ts";
import { removeSdkHeaders } from "./sdk-environment.ts";
import { stopInOrder } from "./shutdown.ts";
import { type ShutdownSignals, waitForAbort, watchProcess } from "./signals.ts";
import { hasColors } from "./terminal.ts";
import { logCertificate, readTls, reloadTls } from "./tls.ts";
import { startTracingIfConfigured, TRACES_FLUSH_TIMEOUT_MS } from "./tracing.ts";

/** Shutdown timeout after an uncaught error. */
const CRASH_TIMEOUT_MS = 3_000;
/** Timeout for closing the database after a second signal. */
const FORCED_CLOSE_TIMEOUT_MS = 1_000;
/** Timeout for closing the database in a graceful shutdown, when the embedded Postgres writes a checkpoint. */
const DATABASE_CLOSE_TIMEOUT_MS = 30_000;

export const serveCommand: Command = {
  name: "serve",
  summary: "migrate the database, then serve (the default command)",
  help: `Usage: parley serve
       parley

Migrates the database, then serves. Without any configuration: an embedded Postgres in ./data, port 3000.
Settings come from the environment; .env.example lists them all, \`parley config\` shows the effective ones.

SIGTERM and SIGINT shut down gracefully: no new work, answers finish, clients reconnect elsewhere (at most SHUTDOWN_TIMEOUT_MS).
A second signal stops immediately. SIGHUP reloads the certificate (TLS_CERT_FILE, TLS_KEY_FILE) and keeps connections.`,

  async run(args, environment) {
    parseOptions("serve", args, {});
    const { config, warnings } = loadConfigWithWarnings(environment);
    removeSdkHeaders(environment);
    setRuntimeProxies(environment, config);
    const tls = readTls(config);
    checkPortIsFree(config);
    const jwtSecret = loadJwtSecret(config);
    const isColored = hasColors(environment);
    const log = createLog(config.LOG_LEVEL, config.LOG_FORMAT, {
      isColored,
      maskSecrets: createSecretMasker([...listSecrets(config), jwtSecret]),
      getExtraFields: findTracesUrl(config) === null ? undefined : () => tracing?.getLogFields() ?? {},
    });
    for (const warning of warnings) log.warn(warning);
    const signals = watchProcess(log);
    const metrics = createMetrics(build);
    const serviceManager = createServiceManager(environment, (reason) =>
      log.warn({ reason }, "systemd can't be notified that Parley is ready; use Type=exec in the unit"),
    );
    const tracing: RunningTracing | null = await startTracingIfConfigured({ config, log, metrics });
    const onWait = (waitMs: number) => metrics.dbPoolWait.observe(waitMs / 1_000);
    const connection = await connectDatabase(config, log, { onWait, tracing });
    try {
      const { database } = connection;
      await serve({ config, tls, jwtSecret, log, isColored, metrics, tracing, signals, serviceManager, database });
    } finally {
      await Promise.race([tracing?.stop(TRACES_FLUSH_TIMEOUT_MS), waitForAbort(signals.stopNow)]);
      const forcedClose = waitForAbort(signals.stopNow).then(() => Bun.sleep(FORCED_CLOSE_TIMEOUT_MS));
      await Promise.race([connection.close(), forcedClose]);
    }
    log.info("stopped");
    return signals.hasCrashed() || signals.stopNow.aborted ? exitCodes.failure : exitCodes.success;
  },
};

type ServeOptions = {
  config: Config;
  tls: Tls | undefined;
  jwtSecret: string;
  log: Log;
  isColored: boolean;
  metrics: Metrics;
  tracing: Tracing | null;
  signals: ShutdownSignals;
  serviceManager: ServiceManager;
  database: Database;
};

/** Serves until a signal arrives, then shuts down gracefully. */
async function serve(options: ServeOptions): Promise<void> {
  const { config, tls, jwtSecret, log, metrics, tracing, signals, serviceManager, database } = options;
  const lifecycle = createLifecycle();
  const parley = createApp({ config, database, log, metrics, lifecycle, jwtSecret, tracing });
  // Until the database is ready, /livez returns 200, and /readyz and the API return 503.
  const listener = listen(parley, config, tls);
  parley.attach(listener);
  const url = config.PUBLIC_URL ?? `${tls ? "https" : "http"}://localhost:${listener.port}`;
  log.info({ address: `${config.HOST}:${listener.port}`, version: build.version }, "listening");
  if (tls) logCertificate(tls, log, metrics);
  signals.onHangup(() => reloadTls({ config, listener, log, metrics }));
  const stopLagWatch = watchEventLoopLag((lagS) => metrics.eventLoopLag.observe(lagS));

  const { components } = parley;
  components.add({ name: "http", after: ["streams", "jobs"], stop: () => listener.stop(false) });
  const orderedComponents = components.list();
  try {
    // The callback may run several times, because the connection may be lost in the middle of the migrations.
    let appliedCount = 0;
    await waitForDatabase(database, log, signals.stop, async () => {
      appliedCount += (await migrate(database, log, { signal: signals.stop })).length;
    });
    log.info(appliedCount === 0 ? "database ready" : `database ready: ${appliedCount} migrations applied`);
    await parley.start();
    lifecycle.markReady();
    serviceManager.notifyReady(`Parley ${build.version} is ready: ${url}`);
    await reportFirstSteps(options, url);
  } catch (error) {
    // A signal during startup aborts the wait, which is not an error.
    if (!signals.stop.aborted) throw error;
  }
  await waitForAbort(signals.stop);

  // After a crash, only the `http` component is stopped gracefully; the wait for load balancers (`readiness`) is skipped.
  if (signals.hasCrashed()) lifecycle.markDraining();
  else lifecycle.markLeaving();
  void waitForAbort(signals.stopNow).then(lifecycle.markDraining);
  serviceManager.notifyStopping(config.SHUTDOWN_TIMEOUT_MS + TRACES_FLUSH_TIMEOUT_MS + DATABASE_CLOSE_TIMEOUT_MS);
  stopLagWatch();
  const componentsToStop = signals.hasCrashed()
    ? orderedComponents.filter(({ name }) => name === "http")
    : orderedComponents;
  const timeoutMs = signals.hasCrashed() ? CRASH_TIMEOUT_MS : config.SHUTDOWN_TIMEOUT_MS;
  await stopInOrder(componentsToStop, { log, timeoutMs, stopNow: signals.stopNow });
  await listener.stop(true);
}

/** Reports the URL, the models and the next steps: as one JSON log line, or as plain lines. */
async function reportFirstSteps({ config, database, log, isColored }: ServeOptions, url: string): Promise<void> {
  // If this query fails, only the hint about the administrator is omitted.
  const isAdministratorPresent = await hasAdministrator(database).catch(() => true);
  const options = { url, hasAdministrator: isAdministratorPresent, command: findOwnCommand() };
  const steps = describeFirstSteps(config, options);
  const { url: baseUrl, apiReference, ...logFields } = steps;
  if (config.LOG_FORMAT === "json")
    log.info(logFields, `Parley ${build.version} is ready: ${baseUrl} (its API: ${apiReference})`);
  else if (log.isLevelEnabled("info")) console.log(formatFirstSteps(build.version, steps, isColored));
}
