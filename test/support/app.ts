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

/** Hashes that take a millisecond: the tests register thousands of users. */
const CHEAP_HASHES: PasswordOptions = { memoryKib: 64, passes: 1 };

/** A complete Parley on a separate database, listening on a free port. Settings by their names in the environment. */
export async function startApp(
  options: {
    config?: Record<string, string>;
    database?: Awaited<ReturnType<typeof createTestDatabase>>;
    bus?: Bus;
    /** Whether it is the only instance on the database; by default true if it has a separate database. */
    isAlone?: boolean;
    /** The log; by default nothing is logged. */
    log?: Log;
    /** Slower hashes, for tests that depend on the duration of a login. */
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
    passwords: options.passwords ?? CHEAP_HASHES,
  });
  const listener = listen(parley, config, undefined);
  parley.attach(listener);
  parley.parts.add({ name: "http", after: ["streams", "jobs"], stop: () => listener.stop(false) });
  await parley.start();
  lifecycle.markReady();
  const url = `http://127.0.0.1:${listener.port}`;

  return {
    ...createTestClient(url),
    database,
    lifecycle,
    metrics,

    /** Stops everything gracefully; a database that was passed in stays open. */
    async stop(): Promise<void> {
      lifecycle.markDraining();
      const hurry = new AbortController().signal;
      await stopInOrder(parley.parts.list(), { log: silentLog, timeoutMs: 2_000, hurry });
      await listener.stop(true);
      if (!options.database) await database.end({ timeout: 1 });
    },
  };
}
