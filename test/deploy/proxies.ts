import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type DatabaseServer, findFreePort, startDatabaseServer } from "../acceptance/database-server.ts";
import { createInstallation, type Parley } from "../acceptance/installation.ts";
import { afterTestRun } from "../support/after-test-run.ts";
import { createCertificates } from "../support/certificates.ts";
import { createTestClient } from "../support/client.ts";
import { type MockProvider, startMockProvider } from "../support/mock-provider/server.ts";
import { waitUntil } from "../support/wait-until.ts";
import { findProgram, readProxyFile } from "./programs.ts";

export type ProxyName = keyof typeof proxyStarters;
export type ProxiedSetup = Awaited<ReturnType<typeof startProxiedSetup>>;

/** The address from which the proxy connects to the instances. */
const PROXY_ADDRESS = "127.0.0.1";
/** The address used instead of IPv6 addresses, because the test machine may have no IPv6. */
const IPV6_SUBSTITUTE = "127.0.0.9";
const isRoot = process.getuid?.() === 0;

type ProxyOptions = { folder: string; httpPort: number; httpsPort: number; upstreams: [number, number] };

let sharedAuthority: ReturnType<typeof createAuthority> | undefined;

/** Returns the tests' CA, which is created again if an earlier test file in the same process has removed it. */
function getAuthority() {
  sharedAuthority ??= createAuthority();
  return sharedAuthority;
}

function createAuthority() {
  const certificates = createCertificates();
  afterTestRun(() => {
    sharedAuthority = undefined;
    certificates.remove();
  });
  return { certificates, authority: certificates.create("Test CA", { extensions: "authority" }) };
}

/** Starts nginx with a minimal configuration that includes deploy/proxies/nginx.conf. */
function startNginx({ folder, httpPort, httpsPort, upstreams }: ProxyOptions) {
  const { certificates, authority } = getAuthority();
  const installCertificate = (name: string) => {
    const { cert, key } = certificates.create(name, { issuer: authority, extensions: "local" });
    writeFileSync(join(folder, "fullchain.pem"), cert + authority.cert);
    writeFileSync(join(folder, "privkey.pem"), key);
  };
  installCertificate("first.test");
  const site = readProxyFile("nginx.conf")
    .replaceAll("127.0.0.1:3001", `127.0.0.1:${upstreams[0]}`)
    .replaceAll("127.0.0.1:3002", `127.0.0.1:${upstreams[1]}`)
    .replaceAll(/listen (\[::\]:)?(80|443)/g, (_, ipv6Address, port) => {
      const address = ipv6Address ? IPV6_SUBSTITUTE : "127.0.0.1";
      return `listen ${address}:${port === "80" ? httpPort : httpsPort}`;
    })
    .replaceAll("chat.example.com;", "localhost;")
    .replaceAll("/etc/letsencrypt/live/chat.example.com", folder)
    .replaceAll("/var/log/nginx", folder);
  writeFileSync(join(folder, "parley.conf"), site);
  const tempFolders = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
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
  ${tempFolders.map((name) => `${name}_temp_path ${folder}/${name};`).join("\n  ")}
  include ${folder}/parley.conf;
}
`,
  );
  const command = [findProgram("nginx"), "-c", config, "-e", join(folder, "main.log")];
  const countWorkers = () => readFileSync(join(folder, "main.log"), "utf8").split("start worker process ").length;
  return {
    child: Bun.spawn(command, { stdio: ["ignore", "ignore", Bun.file(join(folder, "stderr.log"))] }),
    logFiles: ["main.log", "access.log", "parley.error.log", "stderr.log"],
    /** Reloads nginx with a renewed certificate and a changed configuration. */
    async reload(change: (text: string) => string = (text) => text): Promise<void> {
      const previousCount = countWorkers();
      installCertificate("second.test");
      writeFileSync(join(folder, "parley.conf"), change(site));
      runCommand([...command, "-s", "reload"]);
      await waitUntil(() => countWorkers() >= previousCount + 2);
    },
  };
}

/** Starts Caddy with deploy/proxies/Caddyfile for `localhost`. Caddy's internal CA issues the certificate. */
async function startCaddy({ folder, httpPort, httpsPort, upstreams }: ProxyOptions) {
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
  const configOptions = ["--adapter", "caddyfile", "--config", config];
  return {
    child: Bun.spawn([caddy, "run", ...configOptions], {
      env,
      stdio: ["ignore", "ignore", Bun.file(join(folder, "stderr.log"))],
    }),
    logFiles: ["stderr.log"],
    /** Reloads Caddy with a changed configuration, which adds a header to show that the change is active. */
    async reload(change: (text: string) => string = (text) => text): Promise<void> {
      writeFileSync(config, change(text).replace("\theader -Server\n", "\theader -Server\n\theader X-Reloaded yes\n"));
      runCommand([caddy, "reload", ...configOptions, "--address", `127.0.0.1:${adminPort}`], env);
    },
  };
}

const proxyStarters = { nginx: startNginx, caddy: startCaddy };

/** Starts a proxy with its configuration from deploy/proxies. Only addresses, ports and paths are changed. */
export async function startProxy(name: ProxyName, upstreams: [number, number]) {
  const folder = mkdtempSync(join(tmpdir(), "parley-proxy-"));
  const ports = { httpPort: await findFreePort(), httpsPort: await findFreePort() };
  const { child, logFiles, reload } = await proxyStarters[name]({ folder, upstreams, ...ports });
  const stop = async () => {
    child.kill("SIGTERM");
    await Promise.race([child.exited, Bun.sleep(3_000)]);
    child.kill("SIGKILL");
    await child.exited;
    rmSync(folder, { recursive: true, force: true, maxRetries: 20, retryDelay: 100 });
  };
  afterTestRun(stop);
  const readLog = () => logFiles.map((log) => readIfExists(join(folder, log))).join("");
  const url = `https://localhost:${ports.httpsPort}`;
  const connectOnce = () => fetch(url, { tls: { rejectUnauthorized: false } }).then(() => true);
  await waitUntil(() => {
    if (child.exitCode !== null) throw new Error(`${name} exited with ${child.exitCode}: ${readLog()}`);
    return connectOnce().catch(() => false);
  }, 20_000);
  // The CA certificate that the proxy sends after its own certificate.
  const trustedCertFile =
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
    trustedCertFile,
    reload,
    readLog,
    stop,
  };
}

/** Starts two instances of the executable with a shared database, behind a proxy. */
export async function startProxiedSetup(name: ProxyName, env: Record<string, string> = {}) {
  const cleanups: (() => Promise<void> | void)[] = [];
  const stop = async () => {
    for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
  };
  const database: DatabaseServer = await startDatabaseServer();
  cleanups.push(database.stop);
  const mockProvider: MockProvider = startMockProvider();
  cleanups.push(mockProvider.stop);
  const upstreams: [number, number] = [await findFreePort(), await findFreePort()];
  const proxy = await startProxy(name, upstreams);
  cleanups.push(proxy.stop);
  const installation = await createInstallation({
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
  cleanups.push(installation.remove);
  const startInstance = (n: 0 | 1): Promise<Parley> => installation.start({ env: { PORT: String(upstreams[n]) } });
  const instances = [await startInstance(0), await startInstance(1)] as [Parley, Parley];
  await waitUntil(async () => (await proxy.fetch("/readyz")).status === 200, 30_000);
  return { proxy, installation, mockProvider, instances, startInstance, stop };
}

function readIfExists(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
}

function runCommand(command: string[], env: Record<string, string> = {}): void {
  const { exitCode, stderr } = Bun.spawnSync(command, { env: { PATH: process.env.PATH ?? "", ...env } });
  if (exitCode !== 0) throw new Error(`${command.join(" ")}: ${stderr}`);
}
