import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { composeFolder } from "./compose-file.ts";

const toolsFolder = join(import.meta.dir, "../../.tools");
const folders = [
  "/usr/bin",
  "/usr/sbin",
  "/usr/local/bin",
  join(toolsFolder, "debian/usr/bin"),
  join(toolsFolder, "nginx/usr/sbin"),
];

/** Returns the path of a program installed by `make test-deploy`. `TEST_CADDY` overrides Caddy's path. */
export function findProgram(name: "caddy" | "nginx" | "promtool" | "prometheus"): string {
  if (name === "caddy" && process.env.TEST_CADDY) return process.env.TEST_CADDY;
  const programPath = folders.map((folder) => join(folder, name)).find((path) => existsSync(path));
  if (!programPath) throw new Error(`${name} is missing; run \`make test-deploy\`.`);
  return programPath;
}

const proxiesFolder = join(import.meta.dir, "../../deploy/proxies");

/** Matches a directive that Caddy 2.6, the version in Debian 12, doesn't support. */
const CADDY_2_7_DIRECTIVE = /^\t\tstream_close_delay \S+\n/gm;

/** Returns whether this machine's Caddy keeps sockets open during `caddy reload`. */
export function canReloadCaddy(): boolean {
  const version = Bun.spawnSync([findProgram("caddy"), "version"]).stdout.toString();
  const [, minor = "0"] = /^v?2\.(\d+)/.exec(version) ?? [];
  return Number(minor) >= 7;
}

const removeUnsupportedDirective = (text: string): string =>
  canReloadCaddy() ? text : text.replace(CADDY_2_7_DIRECTIVE, "");

/** Returns Compose's Caddyfile, adapted to this machine's Caddy. */
export const readCaddyfile = (): string =>
  removeUnsupportedDirective(readFileSync(join(composeFolder, "caddy/Caddyfile"), "utf8"));

/** Returns a file in deploy/proxies, adapted to this machine's Caddy. */
export function readProxyFile(name: "nginx.conf" | "Caddyfile"): string {
  const text = readFileSync(join(proxiesFolder, name), "utf8");
  return name === "Caddyfile" ? removeUnsupportedDirective(text) : text;
}
