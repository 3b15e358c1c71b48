import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type DatabaseServer, findFreePort, startDatabaseServer } from "../acceptance/database-server.ts";
import { createSite, type Parley } from "../acceptance/site.ts";
import { createCertificates } from "../support/certificates.ts";
import { createTestClient } from "../support/client.ts";
import { atEndOfRun } from "../support/end-of-run.ts";
import { type MockProvider, startMockProvider } from "../support/mock-provider/server.ts";
import { waitUntil } from "../support/wait-until.ts";
import { findProgram, readProxyFile } from "./programs.ts";

export type ProxyName = keyof typeof starters;
export type Proxied = Awaited<ReturnType<typeof startProxied>>;

/** The proxy's own address, and the default client address in tests. */
const PROXY_ADDRESS = "127.0.0.1";
/** Replaces the IPv6 listeners, since a test machine may have no IPv6. */
const SECOND_ADDRESS = "127.0.0.9";
const isRoot = process.getuid?.() === 0;

type Location = { folder: string; httpPort: number; httpsPort: number; upstreams: [number, number] };

let authorityOfRun: ReturnType<typeof createAuthority> | undefined;

/** The tests' CA. A test file that ends earlier in the same process may remove it. */
function getAuthority() {
  authorityOfRun ??= createAuthority();
  return authorityOfRun;
}

function createAuthority() {
  const certificates = createCertificates();
  atEndOfRun(() => {
    authorityOfRun = undefined;
    certificates.remove();
  });
  return { certificates, authority: certificates.create("Authority of the tests", { extensions: "authority" }) };
}

/** deploy/proxies/nginx.conf, included in a minimal nginx.conf. */
function startNginx({ folder, httpPort, httpsPort, upstreams }: Location) {
  const { certificates, authority } = getAuthority();
  const install = (name: string) => {
    const { cert, key } = certificates.create(name, { issuer: authority, extensions: "local" });
    writeFileSync(join(folder, "fullchain.pem"), cert + authority.cert);
    writeFileSync(join(folder, "privkey.pem"), key);
  };
  install("first.test");
  const site = readProxyFile("nginx.conf")
    .replaceAll("127.0.0.1:3001", `127.0.0.1:${upstreams[0]}`)
    .replaceAll("127.0.0.1:3002", `127.0.0.1:${upstreams[1]}`)
    .replaceAll(/listen (\[::\]:)?(80|443)/g, (_, second, port) => {
      const address = second ? SECOND_ADDRESS : "127.0.0.1";
      return `listen ${address}:${port === "80" ? httpPort : httpsPort}`;
    })
    .replaceAll("chat.example.com;", "localhost;")
    .replaceAll("/etc/letsencrypt/live/chat.example.com", folder)
    .replaceAll("/var/log/nginx", folder);
  writeFileSync(join(folder, "parley.conf"), site);
  const temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
  const config = join(folder, "main.conf");
  writeFileSync(
    config,
    `daemon off;
${isRoot ? "user root;" : ""}
worker_processes 2;
worker_rlimit_nofile 4096;
error_log ${folder}/main.log notice;
pid ${folder}/nginx.pid;
events { worker_connections 1024; }
http {
  access_log ${folder}/access.log;
  ${temporary.map((name) => `${name}_temp_path ${folder}/${name};`).join("\n  ")}
  include ${folder}/parley.conf;
}
`,
  );
  const command = [findProgram("nginx"), "-c", config, "-e", join(folder, "main.log")];
  const countWorkers = () => readFileSync(join(folder, "main.log"), "utf8").split("start worker process ").length;
  return {
    child: Bun.spawn(command, { stdio: ["ignore", "ignore", Bun.file(join(folder, "stderr.log"))] }),
    logs: ["main.log", "access.log", "parley.error.log", "stderr.log"],
    /** With a renewed certificate and a changed file. */
    async reload(change: (text: string) => string = (text) => text): Promise<void> {
      const before = countWorkers();
      install("second.test");
      writeFileSync(join(folder, "parley.conf"), change(site));
      runToEnd([...command, "-s", "reload"]);
      await waitUntil(() => countWorkers() >= before + 2);
    },
  };
}

/** deploy/proxies/Caddyfile with Caddy's internal CA, as for `localhost`. */
async function startCaddy({ folder, httpPort, httpsPort, upstreams }: Location) {
  const config = join(folder, "Caddyfile");
  const adminPort = await findFreePort();
  const options = `\thttp_port ${httpPort}\n\thttps_port ${httpsPort}\n\tadmin 127.0.0.1:${adminPort}\n\tskip_install_trust\n`;
  const text = readProxyFile("Caddyfile")
    .replaceAll("127.0.0.1:3001", `127.0.0.1:${upstreams[0]}`)
    .replaceAll("127.0.0.1:3002", `127.0.0.1:${upstreams[1]}`)
    .replaceAll("chat.example.com", "localhost")
    .replace(/^\{\n/m, `{\n${options}`);
  writeFileSync(config, text);
  mkdirSync(join(folder, "data"));
  const caddy = findProgram("caddy");
  const env = { HOME: folder, XDG_DATA_HOME: join(folder, "data") };
  const more = ["--adapter", "caddyfile", "--config", config];
  return {
    child: Bun.spawn([caddy, "run", ...more], {
      env,
      stdio: ["ignore", "ignore", Bun.file(join(folder, "stderr.log"))],
    }),
    logs: ["stderr.log"],
    /** With an extra header, which shows that the new settings are active, and a changed file. */
    async reload(change: (text: string) => string = (text) => text): Promise<void> {
      writeFileSync(config, change(text).replace("\theader -Server\n", "\theader -Server\n\theader X-Reloaded yes\n"));
      runToEnd([caddy, "reload", ...more, "--address", `127.0.0.1:${adminPort}`], env);
    },
  };
}

const starters = { nginx: startNginx, caddy: startCaddy };

/** Starts a proxy with the file in deploy/proxies; only addresses, ports and paths differ. */
export async function startProxy(name: ProxyName, upstreams: [number, number]) {
  const folder = mkdtempSync(join(tmpdir(), "parley-proxy-"));
  const ports = { httpPort: await findFreePort(), httpsPort: await findFreePort() };
  const { child, logs, reload } = await starters[name]({ folder, upstreams, ...ports });
  const stop = async () => {
    child.kill("SIGTERM");
    await Promise.race([child.exited, Bun.sleep(3_000)]);
    child.kill("SIGKILL");
    await child.exited;
    rmSync(folder, { recursive: true, force: true, maxRetries: 20, retryDelay: 100 });
  };
  atEndOfRun(stop);
  const readLog = () => logs.map((log) => readIfThere(join(folder, log))).join("");
  const url = `https://localhost:${ports.httpsPort}`;
  const probe = () => fetch(url, { tls: { rejectUnauthorized: false } }).then(() => true);
  await waitUntil(() => {
    if (child.exitCode !== null) throw new Error(`${name} exited with ${child.exitCode}: ${readLog()}`);
    return probe().catch(() => false);
  }, 20_000);
  // The CA whose certificate the proxy sends with its own.
  const issuerFile =
    name === "nginx"
      ? getAuthority().authority.certFile
      : join(folder, "data/caddy/pki/authorities/local/intermediate.crt");
  const authorityFile =
    name === "nginx" ? getAuthority().authority.certFile : join(folder, "data/caddy/pki/authorities/local/root.crt");
  const ca = readFileSync(authorityFile, "utf8");
  return {
    ...createTestClient(url, { tls: { ca } }),
    ...ports,
    upstreams,
    tls: { ca },
    authorityFile,
    issuerFile,
    reload,
    readLog,
    stop,
  };
}

/** Two instances of the executable with a shared database, behind a proxy. */
export async function startProxied(name: ProxyName, env: Record<string, string> = {}) {
  const cleanups: (() => Promise<void> | void)[] = [];
  const stop = async () => {
    for (const step of cleanups.splice(0).reverse()) await step();
  };
  const database: DatabaseServer = await startDatabaseServer();
  cleanups.push(database.stop);
  const mockProvider: MockProvider = startMockProvider();
  cleanups.push(mockProvider.stop);
  const upstreams: [number, number] = [await findFreePort(), await findFreePort()];
  const proxy = await startProxy(name, upstreams);
  cleanups.push(proxy.stop);
  const site = await createSite({
    env: {
      HOST: "127.0.0.1",
      DATABASE_URL: await database.createDatabase(),
      JWT_SECRET: "a secret that only tests know: 0123456789",
      TRUSTED_PROXIES: PROXY_ADDRESS,
      PUBLIC_URL: proxy.url,
      COMPATIBLE_BASE_URL: mockProvider.openaiUrl,
      AI_MODELS: "compatible/slow",
      ...env,
    },
  });
  cleanups.push(site.remove);
  const startInstance = (n: 0 | 1): Promise<Parley> => site.start({ env: { PORT: String(upstreams[n]) } });
  const instances = [await startInstance(0), await startInstance(1)] as [Parley, Parley];
  await waitUntil(async () => (await proxy.fetch("/readyz")).status === 200, 30_000);
  return { proxy, site, mockProvider, instances, startInstance, stop };
}

function readIfThere(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
}

function runToEnd(command: string[], env: Record<string, string> = {}): void {
  const { exitCode, stderr } = Bun.spawnSync(command, { env: { PATH: process.env.PATH ?? "", ...env } });
  if (exitCode !== 0) throw new Error(`${command.join(" ")}: ${stderr}`);
}
