import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { composeFolder } from "./compose-file.ts";

const tools = join(import.meta.dir, "../../.tools");
const places = [
  "/usr/bin",
  "/usr/sbin",
  "/usr/local/bin",
  join(tools, "debian/usr/bin"),
  join(tools, "nginx/usr/sbin"),
];

/** A program that `make test-deploy` provides. `TEST_CADDY` names another Caddy. */
export function findProgram(name: "caddy" | "nginx" | "promtool" | "prometheus"): string {
  if (name === "caddy" && process.env.TEST_CADDY) return process.env.TEST_CADDY;
  const found = places.map((folder) => join(folder, name)).find((path) => existsSync(path));
  if (!found) throw new Error(`${name} is missing; run \`make test-deploy\`.`);
  return found;
}

const proxiesFolder = join(import.meta.dir, "../../deploy/proxies");

/** Debian 12 has Caddy 2.6, which doesn't know this yet. */
const SINCE_CADDY_2_7 = /^\t\tstream_close_delay \S+\n/gm;

/** Whether the Caddy of this machine lets open sockets live through `caddy reload`. */
export function canReloadCaddy(): boolean {
  const version = Bun.spawnSync([findProgram("caddy"), "version"]).stdout.toString();
  const [, minor = "0"] = /^v?2\.(\d+)/.exec(version) ?? [];
  return Number(minor) >= 7;
}

const forThisCaddy = (text: string): string => (canReloadCaddy() ? text : text.replace(SINCE_CADDY_2_7, ""));

/** The Caddyfile of compose, for the Caddy of this machine. */
export const readCaddyfile = (): string => forThisCaddy(readFileSync(join(composeFolder, "caddy/Caddyfile"), "utf8"));

/** A file of deploy/proxies, for the programs of this machine. */
export function readProxyFile(name: "nginx.conf" | "Caddyfile"): string {
  const text = readFileSync(join(proxiesFolder, name), "utf8");
  return name === "Caddyfile" ? forThisCaddy(text) : text;
}
