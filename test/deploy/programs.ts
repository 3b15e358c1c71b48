import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { composeFolder } from "./compose-file.ts";

const tools = join(import.meta.dir, "../../.tools");
const folders = [
  "/usr/bin",
  "/usr/sbin",
  "/usr/local/bin",
  join(tools, "debian/usr/bin"),
  join(tools, "nginx/usr/sbin"),
];

/** A program installed by `make test-deploy`. `TEST_CADDY` overrides Caddy's path. */
export function findProgram(name: "caddy" | "nginx" | "promtool" | "prometheus"): string {
  if (name === "caddy" && process.env.TEST_CADDY) return process.env.TEST_CADDY;
  const found = folders.map((folder) => join(folder, name)).find((path) => existsSync(path));
  if (!found) throw new Error(`${name} is missing; run \`make test-deploy\`.`);
  return found;
}

const proxiesFolder = join(import.meta.dir, "../../deploy/proxies");

/** Debian 12 has Caddy 2.6, which doesn't support this. */
const SINCE_CADDY_2_7 = /^\t\tstream_close_delay \S+\n/gm;

/** Whether this machine's Caddy keeps open sockets during `caddy reload`. */
export function canReloadCaddy(): boolean {
  const version = Bun.spawnSync([findProgram("caddy"), "version"]).stdout.toString();
  const [, minor = "0"] = /^v?2\.(\d+)/.exec(version) ?? [];
  return Number(minor) >= 7;
}

const forThisCaddy = (text: string): string => (canReloadCaddy() ? text : text.replace(SINCE_CADDY_2_7, ""));

/** The Caddyfile of compose, adapted to this machine's Caddy. */
export const readCaddyfile = (): string => forThisCaddy(readFileSync(join(composeFolder, "caddy/Caddyfile"), "utf8"));

/** A file of deploy/proxies, adapted to this machine's programs. */
export function readProxyFile(name: "nginx.conf" | "Caddyfile"): string {
  const text = readFileSync(join(proxiesFolder, name), "utf8");
  return name === "Caddyfile" ? forThisCaddy(text) : text;
}
