import { createApp } from "../../src/app.ts";
import { listen } from "../../src/commands/listen.ts";
import { stopInOrder } from "../../src/commands/shutdown.ts";
import { loadConfig } from "../../src/config.ts";
import { createLifecycle } from "../../src/lib/lifecycle.ts";
import type { Log } from "../../src/lib/log.ts";
import { createMetrics } from "../../src/lib/metrics.ts";
import type { PasswordOptions } from "../../src/modules/users/passwords.ts";
import type { Bus } from "../../src/realtime/bus.ts";
import { createTestClient } from "./client.ts";
import { silentLog } from "./log.ts";
import { createTestDatabase } from "./postgres.ts";

export { type Account, TEST_PASSWORD } from "./client.ts";

export type TestApp = Awaited<ReturnType<typeof startApp>>;

/** Options for cheap hashes, which take about a millisecond each, because the tests register thousands of users. */
const FAST_HASHES: PasswordOptions = { memoryKib: 64, iterations: 1 };

/** Starts a complete Parley server on a free port, by default with a new database. */
export async function startApp(
  options: {
    /** Settings by environment variable name. */
    config?: Record<string, string>;
    database?: Awaited<ReturnType<typeof createTestDatabase>>;
    bus?: Bus;
    /** Whether no other instance uses the database. The default is true unless `database` is set. */
    isAlone?: boolean;
    /** By default, nothing is logged. */
    log?: Log;
    /** Set slower hashes in tests that depend on the duration of a login. */
    passwords?: PasswordOptions;
  } = {},
) {
  const { database } = options.database ?? (await createTestDatabase());
  const config = loadConfig(
    { PORT: "0", HOST: "127.0.0.1", LOG_LEVEL: "silent", RATE_LIMIT_ENABLED: "false", ...options.config },
    () => {
      throw new Error("Tests don't support secret files.");
    },
  );
  const lifecycle = createLifecycle();
  const metrics = createMetrics({ version: "test", commit: "test" });
  const jwtSecret = config.JWT_SECRET ?? "a secret that only tests know: 0123456789";
  const parley = createApp({
    config,
    database,
    log: options.log ?? silentLog,
    metrics,
    lifecycle,
    jwtSecret,
    bus: options.bus,
    isAlone: options.isAlone ?? options.database === undefined,
    passwords: options.passwords ?? FAST_HASHES,
  });
  const listener = listen(parley, config, undefined);
  parley.attach(listener);
  parley.components.add({ name: "http", after: ["streams", "jobs"], stop: () => listener.stop(false) });
  await parley.start();
  lifecycle.markReady();
  const url = `http://127.0.0.1:${listener.port}`;

  return {
    ...createTestClient(url),
    database,
    lifecycle,
    metrics,

    /** Stops Parley gracefully. Also closes the database unless `options.database` was set. */
    async stop(): Promise<void> {
      lifecycle.markDraining();
      const stopNow = new AbortController().signal;
      await stopInOrder(parley.components.list(), { log: silentLog, timeoutMs: 2_000, stopNow });
      await listener.stop(true);
      if (!options.database) await database.end({ timeout: 1 });
    },
  };
}
