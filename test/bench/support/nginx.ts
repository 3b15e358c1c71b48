import { existsSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import type { Server } from "./servers.ts";

const repositoryFolder = dirname(dirname(dirname(import.meta.dir)));
const unpackedFolder = join(repositoryFolder, ".tools/nginx");

/** Maximum number of connections. Each stream needs two. */
const CONNECTIONS_MAX = 4_096;
/** Maximum number of idle connections to the provider. */
const IDLE_CONNECTIONS_MAX = 1_024;
/** Maximum number of requests per connection. nginx's default is 1,000. */
const REQUESTS_MAX = 1_000_000;

/** Returns the path of nginx. If it isn't installed, downloads Debian's package. @throws Error if the download fails. */
export function findOrDownloadNginx(): string {
  const candidates = ["/usr/sbin/nginx", Bun.which("nginx") ?? "", join(unpackedFolder, "usr/sbin/nginx")];
  const installedPath = candidates.find((path) => path !== "" && existsSync(path));
  if (installedPath) return installedPath;
  const script = join(repositoryFolder, "scripts/install-nginx.sh");
  const { exitCode } = Bun.spawnSync([script, unpackedFolder], { stdio: ["ignore", "inherit", "inherit"] });
  if (exitCode !== 0) throw new Error(`nginx is missing, and ${script} failed.`);
  return join(unpackedFolder, "usr/sbin/nginx");
}

/** Writes the configuration of a reverse proxy with one worker and no buffering. Returns its path. */
export function writeNginxConfig(options: { folder: string; port: number; provider: Server }): string {
  const { folder, port, provider } = options;
  const temporaryFolders = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
  const path = join(folder, "nginx.conf");
  writeFileSync(
    path,
    `daemon off;
${process.getuid?.() === 0 ? "user root;" : ""}
worker_processes 1;
worker_rlimit_nofile ${2 * CONNECTIONS_MAX};
error_log stderr warn;
pid ${folder}/nginx.pid;
events { worker_connections ${CONNECTIONS_MAX}; }
http {
  access_log off;
  ${temporaryFolders.map((name) => `${name}_temp_path ${folder}/${name};`).join("\n  ")}
  keepalive_requests ${REQUESTS_MAX};
  upstream provider {
    server ${new URL(provider.url).host};
    keepalive ${IDLE_CONNECTIONS_MAX};
    keepalive_requests ${REQUESTS_MAX};
  }
  server {
    listen 127.0.0.1:${port} backlog=${CONNECTIONS_MAX};
    location / {
      proxy_pass http://provider;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_buffering off;
    }
  }
}
`,
  );
  return path;
}
