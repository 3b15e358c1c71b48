import { basename, join, relative, resolve } from "node:path";
import { listDefaultModels } from "../config/providers.ts";
import type { Config } from "../config.ts";
import { payloadVersion } from "../db/embedded/payload.ts";
import { describeConfiguredDatabase } from "./database-description.ts";
import { bold } from "./terminal.ts";

/** What Parley reports at startup, in the log or on a terminal. */
export type FirstSteps = {
  url: string;
  apiReference: string;
  database: string;
  models: string;
  /** The HTTP proxies through which other servers are reached; null if none. */
  proxies: string | null;
  /** How to create an administrator; null if one exists. */
  administrator: string | null;
};

type Options = {
  url: string;
  hasAdministrator: boolean;
  /** The command that runs this executable, used in the hint. */
  command: string;
};

/** Describes the first steps, without any secrets. */
export function describeFirstSteps(config: Config, { url, hasAdministrator, command }: Options): FirstSteps {
  const baseUrl = url.replace(/\/+$/, "");
  return {
    url: baseUrl,
    apiReference: `${baseUrl}/swagger`,
    database: describeDatabase(config),
    models: describeModels(config),
    proxies: describeProxies(config),
    administrator: hasAdministrator ? null : `none yet; run: ${command} admin create --email YOU@EXAMPLE.COM`,
  };
}

function describeDatabase(config: Config): string {
  if (config.DATABASE_URL !== undefined) return `Postgres: ${describeConfiguredDatabase(config)}`;
  const version = payloadVersion.split(".").slice(0, 2).join(".");
  return `embedded PostgreSQL ${version}; all data is in ${resolve(config.DATA_DIR)}`;
}

/** Lists the models in use, and says whether they are the default. */
function describeModels(config: Config): string {
  const names = config.AI_MODELS.join(", ");
  if (config.AI_MODELS.length === 0)
    return "none: replies come from the documents (offline); set OPENAI_API_KEY, ANTHROPIC_API_KEY or AI_MODELS";
  const defaultModels = listDefaultModels(config);
  // An AI_MODELS setting that lists the default models also counts as the default.
  const areDefaults = defaultModels.length > 0 && defaultModels.join() === config.AI_MODELS.join();
  return areDefaults ? `${names} (by default; set AI_MODELS to choose)` : names;
}

function describeProxies({ HTTPS_PROXY, HTTP_PROXY }: Config): string | null {
  const findHost = (url: string | undefined) => (url === undefined ? null : new URL(url).host);
  const [forHttps, forHttp] = [findHost(HTTPS_PROXY), findHost(HTTP_PROXY)];
  if (forHttps === null || forHttp === null || forHttps === forHttp) {
    const host = forHttps ?? forHttp;
    const scope = forHttps === null ? " (for http URLs only)" : forHttp === null ? " (for https URLs only)" : "";
    return host && host + scope;
  }
  return `${forHttps}, and ${forHttp} for http URLs`;
}

/** Formats the first steps for a terminal, one line each. */
export function formatFirstSteps(version: string, steps: FirstSteps, isColored: boolean): string {
  const { url, apiReference, database, models, proxies, administrator } = steps;
  const lines = [
    ["API reference", apiReference],
    ["Database", database],
    ["Models", models],
    ...(proxies === null ? [] : [["Proxy", proxies]]),
    ...(administrator === null ? [] : [["Administrator", administrator]]),
    ["Stop", "Ctrl+C"],
  ].map(([label = "", value = ""]) => `  ${bold(label.padEnd(15), isColored)}${value}`);
  return [`Parley ${version} is ready: ${bold(url, isColored)}`, ...lines].join("\n");
}

/** Returns the command that runs this executable from the current folder. */
export function findOwnCommand(executable = process.execPath, folder = process.cwd()): string {
  // If Parley runs from source, the executable is Bun.
  if (/^bun(?:\.exe)?$/.test(basename(executable))) return "bun src/main.ts";
  if (Bun.which(basename(executable)) === executable) return basename(executable);
  const path = relative(folder, executable);
  return path.startsWith("..") ? executable : `.${join("/", path)}`;
}
