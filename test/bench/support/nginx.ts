import { existsSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import type { Server } from "./servers.ts";

const root = dirname(dirname(dirname(import.meta.dir)));
const unpacked = join(root, ".tools/nginx");

/** Connections of the worker: two per stream. */
const CONNECTIONS_MAX = 4_096;
/** Idle connections to the provider; enough for every stream of the bench. */
const KEPT_CONNECTIONS = 1_024;
/** Requests per connection. By default nginx closes it after 1,000. */
const REQUESTS_MAX = 1_000_000;

/** The nginx of this machine, or else Debian's, which is downloaded on first use. @throws Error if neither is available. */
export function findNginx(): string {
  const candidates = ["/usr/sbin/nginx", Bun.which("nginx") ?? "", join(unpacked, "usr/sbin/nginx")];
  const found = candidates.find((path) => path !== "" && existsSync(path));
  if (found) return found;
  const script = join(root, "scripts/install-nginx.sh");
  const { exitCode } = Bun.spawnSync([script, unpacked], { stdio: ["ignore", "inherit", "inherit"] });
  if (exitCode !== 0) throw new Error(`nginx is missing, and ${script} failed.`);
  return join(unpacked, "usr/sbin/nginx");
}

/** Writes the settings of a single-worker reverse proxy that forwards each packet at once. @returns their path. */
export function writeNginxSettings(options: { folder: string; port: number; provider: Server }): string {
  const { folder, port, provider } = options;
  const temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
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
  ${temporary.map((name) => `${name}_temp_path ${folder}/${name};`).join("\n  ")}
  keepalive_requests ${REQUESTS_MAX};
  upstream provider {
    server ${new URL(provider.url).host};
    keepalive ${KEPT_CONNECTIONS};
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
