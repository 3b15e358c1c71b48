import { readFileSync, statSync } from "node:fs";
import { parseEnv } from "node:util";
import { createCatalogue } from "../ai/models.ts";
import type { HasPrice } from "../config/contradictions.ts";
import { findDatabaseUrlProblems } from "../config/database-url-check.ts";
import { type Config, ConfigError, loadConfig } from "../config.ts";
import { findPrice } from "../lib/prices.ts";
import type { Environment } from "./command.ts";

const ENV_FILE = ".env";

/**
 * The configuration out of the environment and, in development only, of `.env` in the working directory, below it.
 * @throws ConfigError with every error found.
 */
export function loadConfigFrom(environment: Environment): Config {
  const merged = { ...readEnvFile(environment), ...environment };
  const readFile = (path: string) => readFileSync(path, "utf8");
  return loadConfig(merged, readFile, isFolder, hasPrice, (url) =>
    findDatabaseUrlProblems(url, { environment: merged, readFile }),
  );
}

/** For `loadConfig`, which lies below the catalogue of models. */
export const hasPrice: HasPrice = (model, configured) =>
  findPrice(model, createCatalogue({ prices: configured }).prices) !== undefined;

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
  // Otherwise a production server would start with whatever lies in its working directory.
  if (!environment.APP_ENV && values.APP_ENV && values.APP_ENV !== "development")
    throw new ConfigError([
      `APP_ENV: ${ENV_FILE} is read in development only, so it cannot choose ${values.APP_ENV}; set APP_ENV in the environment.`,
    ]);
  return values;
}
