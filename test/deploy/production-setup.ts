import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { findFreePort } from "../acceptance/database-server.ts";
import { createInstallation, type Parley } from "../acceptance/installation.ts";
import { afterTestRun } from "../support/after-test-run.ts";
import { startInstalledPostgres } from "../support/installed-postgres.ts";
import { startRedis } from "../support/redis.ts";
import { composeFolder, readCompose, readExampleEnv } from "./compose-file.ts";
import { findProgram, readCaddyfile } from "./programs.ts";

export type ProductionSetup = Awaited<ReturnType<typeof startProductionSetup>>;

/** The address from which Caddy connects to the instances. */
const CADDY_ADDRESS = "127.0.0.1";

/**
 * Starts the services of compose.production.yaml on this machine, with that file's settings, secrets and scripts:
 * Postgres, Redis (instead of Valkey), two instances of the executable, and Caddy. Only addresses and paths differ.
 */
export async function startProductionSetup() {
  const { services } = readCompose("production", { ...readExampleEnv("production"), PARLEY_DOMAIN: "localhost" });
  const folder = mkdtempSync(join(tmpdir(), "parley-production-"));
  const cleanups: (() => Promise<void> | void)[] = [() => rmSync(folder, { recursive: true, force: true })];
  const stop = async () => {
    for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
  };
  afterTestRun(stop);

  const secrets = join(folder, "secrets");
  runCommand(["sh", join(composeFolder, "make-secrets.sh"), secrets]);
  const readSecret = (name: string) => readFileSync(join(secrets, name), "utf8").trim();
  /** Replaces a container's address in a secret with a local address. */
  const replaceAddress = (name: string, from: string, to: string) =>
    writeFileSync(join(secrets, name), readSecret(name).replace(from, to));

  const postgresPort = await findFreePort();
  const postgres = await startInstalledPostgres({ port: postgresPort });
  cleanups.push(postgres.stop);
  const script = readFileSync(join(composeFolder, "postgres/create-parley.sh"), "utf8");
  writeFileSync(join(folder, "create-parley.sh"), script.replace("/run/secrets/", `${secrets}/`));
  runCommand(["sh", join(folder, "create-parley.sh")], {
    PGHOST: postgres.socketDirectory,
    PGPORT: String(postgresPort),
  });
  replaceAddress("database_url", "@postgres:5432/", `@127.0.0.1:${postgresPort}/`);

  const [, , ...flags] = services.valkey?.command ?? [];
  const valkeySettings = Object.fromEntries(
    flags.filter((_, n) => n % 2 === 0).map((flag, n) => [flag.replace("--", ""), flags[2 * n + 1] ?? ""]),
  );
  const [directive = "", password = ""] = readSecret("valkey_conf").split(" ");
  const redis = await startRedis({ ...valkeySettings, [directive]: password });
  cleanups.push(redis.stop);
  replaceAddress("redis_url", "@valkey:6379", `@${new URL(redis.url).host}`);

  const settings = services["parley-1"]?.environment ?? {};
  const env = Object.fromEntries(
    Object.entries(settings).map(([name, value]) => [name, value.replace("/run/secrets/", `${secrets}/`)]),
  );
  const installation = await createInstallation({ env: { ...env, TRUSTED_PROXIES: CADDY_ADDRESS, HOST: "127.0.0.1" } });
  cleanups.push(installation.remove);
  const ports = [await findFreePort(), await findFreePort()] as const;
  const startInstance = (n: 0 | 1): Promise<Parley> => installation.start({ env: { PORT: String(ports[n]) } });
  const instances = [await startInstance(0), await startInstance(1)] as [Parley, Parley];

  const caddyPort = await findFreePort();
  const caddyfile = join(folder, "Caddyfile");
  const localOptions = `\thttp_port ${await findFreePort()}\n\thttps_port ${caddyPort}\n\tadmin off\n\tskip_install_trust\n`;
  writeFileSync(caddyfile, readCaddyfile().replace(/^\{\n/m, `{\n${localOptions}`));
  mkdirSync(join(folder, "caddy"));
  const caddy = Bun.spawn([findProgram("caddy"), "run", "--adapter", "caddyfile", "--config", caddyfile], {
    env: {
      ...services.caddy?.environment,
      HOME: folder,
      XDG_DATA_HOME: join(folder, "caddy"),
      PARLEY_INSTANCES: ports.map((port) => `127.0.0.1:${port}`).join(" "),
    },
    stdio: ["ignore", "ignore", Bun.file(join(folder, "caddy.log"))],
  });
  cleanups.push(async () => {
    caddy.kill("SIGKILL");
    await caddy.exited;
  });

  return {
    url: `https://localhost:${caddyPort}`,
    caddyPort,
    installation,
    instances,
    startInstance,
    postgres,
    readSecret,
    readCaddyLog: () => readFileSync(join(folder, "caddy.log"), "utf8"),
    stop,
  };
}

function runCommand(command: string[], env: Record<string, string> = {}): void {
  const { exitCode, stderr } = Bun.spawnSync(command, { env: { PATH: process.env.PATH ?? "", ...env } });
  if (exitCode !== 0) throw new Error(`${command.join(" ")}: ${stderr}`);
}
