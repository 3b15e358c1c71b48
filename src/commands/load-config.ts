import { readFileSync, statSync } from "node:fs";
import { parseEnv } from "node:util";
import { createCatalog } from "../ai/models.ts";
import { findDatabaseUrlProblems } from "../config/database-url-check.ts";
import { listSettingEntries } from "../config/setting-entries.ts";
import type { SettingOptions } from "../config/setting-options.ts";
import type { HasPrice } from "../config/setting-problems.ts";
import { findUnknownNames } from "../config/unknown-names.ts";
import { findWarnings } from "../config/warnings.ts";
import { type Config, ConfigError, loadConfig, type SettingSources } from "../config.ts";
import { findFolderProblem } from "../lib/folder-check.ts";
import { findPrice } from "../lib/prices.ts";
import type { Environment } from "./command.ts";

const ENV_FILE = ".env";

/**
 * Loads the configuration from the environment and, in development only, from `.env` in the working directory. The
 * environment takes precedence.
 * @throws ConfigError with every error found.
 */
export function loadConfigFrom(environment: Environment): Config {
  return loadMergedConfig(environment, readEnvFile(environment));
}

/** Loads the configuration, and returns warnings for the operator. The warnings contain no secrets. */
export function loadConfigWithWarnings(environment: Environment): { config: Config; warnings: string[] } {
  const fileValues = readEnvFile(environment);
  const warningContext = {
    environment: { ...fileValues, ...environment },
    isFromFile: (name: string) => environment[name] === undefined && fileValues[name] !== undefined,
  };
  try {
    const config = loadMergedConfig(environment, fileValues);
    return { config, warnings: findWarnings(config, warningContext) };
  } catch (error) {
    // A missing setting may be present under a misspelled name.
    if (error instanceof ConfigError)
      error.problems.push(...findUnknownNames(warningContext.environment, warningContext.isFromFile, error.servers));
    throw error;
  }
}

function loadMergedConfig(environment: Environment, fileValues: Environment): Config {
  const merged = { ...fileValues, ...environment };
  const readFile = (path: string) => readFileSync(path, "utf8");
  const config = loadConfig(
    merged,
    readFile,
    isFolder,
    hasPrice,
    (url) => findDatabaseUrlProblems(url, { environment: merged, readFile }),
    findFolderProblem,
  );
  const isInteractive = process.stdout.isTTY && config.APP_ENV === "development";
  return merged.LOG_FORMAT?.trim() || !isInteractive ? config : Object.freeze({ ...config, LOG_FORMAT: "pretty" });
}

/** Returns the source of each setting that has a value. */
export function findSources(environment: Environment, config: Config): SettingSources {
  const merged: Environment = { ...readEnvFile(environment), ...environment };
  const findSource = (name: string, { secret: isSecret = false, isSystemWide = false }: SettingOptions): string => {
    const formatOrigin = (key: string) => (key in environment ? "" : ` (${ENV_FILE})`);
    if (merged[`${name}_FILE`] && isSecret) return `${name}_FILE${formatOrigin(`${name}_FILE`)}`;
    const lowercaseName = name.toLowerCase();
    if (!merged[name]?.trim() && isSystemWide && merged[lowercaseName]?.trim())
      return `${lowercaseName}${formatOrigin(lowercaseName)}`;
    if (!merged[name]?.trim()) return "default";
    return name in environment ? "environment" : ENV_FILE;
  };
  return new Map(listSettingEntries(config).map(([name, options]) => [name, findSource(name, options)]));
}

/**
 * Loads a single secret from the setting `name`, or from the file at the path in `NAME_FILE`.
 * @throws ConfigError if the file can't be read.
 */
export function loadSecretFrom(environment: Environment, name: string): string | undefined {
  const merged = { ...readEnvFile(environment), ...environment };
  const value = merged[name]?.trim() || undefined;
  const file = merged[`${name}_FILE`];
  if (!file) return value;
  if (value) throw new ConfigError([`${name} and ${name}_FILE are both set; keep one of them.`]);
  try {
    return readFileSync(file, "utf8").trim() || undefined;
  } catch {
    throw new ConfigError([`${name}_FILE: the file can't be read; use an existing file that Parley's user can read.`]);
  }
}

/** Whether a model's price is known. Passed to `loadConfig`, which must not import the model catalog. */
export const hasPrice: HasPrice = (model, configuredPrices) =>
  findPrice(model, createCatalog({ prices: configuredPrices }).prices) !== undefined;

function isFolder(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isDirectory() ?? false;
}

function readEnvFile(environment: Environment): Environment {
  if ((environment.APP_ENV?.trim() || "development") !== "development") return {};
  let text: string;
  try {
    text = readFileSync(ENV_FILE, "utf8");
  } catch {
    return {};
  }
  const values = parseEnv(text);
  // A production server must not read any `.env` in its working directory, so `.env` can't set APP_ENV.
  if (!environment.APP_ENV && values.APP_ENV && values.APP_ENV !== "development")
    throw new ConfigError([
      `APP_ENV: ${ENV_FILE} is read only in development, so it can't select ${values.APP_ENV}; set APP_ENV in the environment.`,
    ]);
  // Bun reads this variable before Parley's code runs, and only from the environment.
  if (values.NODE_EXTRA_CA_CERTS && !environment.NODE_EXTRA_CA_CERTS)
    throw new ConfigError([
      `NODE_EXTRA_CA_CERTS: it is read before ${ENV_FILE}; remove it there, and set it in the environment.`,
    ]);
  return values;
}
