import type { TSchema } from "@sinclair/typebox";
import { Value } from "@sinclair/typebox/value";
import { findContradictions, findMissingFiles, type HasPrice, type ReadFile } from "./config/contradictions.ts";
import { type SettingOptions, type Settings, settingEntries } from "./config/settings.ts";

export { printConfig, printConfigTable, printEnvExample } from "./config/print.ts";

/** The checked, frozen configuration. Names are those of the environment, so that a search finds every use. */
export type Config = Readonly<Settings & { REGISTRATION: "open" | "closed" }>;

export class ConfigError extends Error {
  constructor(readonly problems: string[]) {
    super(problems.join("\n"));
    this.name = "ConfigError";
  }
}

type Environment = Record<string, string | undefined>;

/**
 * Builds the configuration out of environment variables.
 * @param findUrlProblems tells what is wrong with DATABASE_URL.
 * @throws ConfigError with every error found, one sentence each.
 */
export function loadConfig(
  environment: Environment,
  readFile: ReadFile,
  isFolder: (path: string) => boolean = () => true,
  hasPrice: HasPrice = () => true,
  findUrlProblems: (url: string) => string[] = () => [],
): Config {
  const problems: string[] = [];
  const values: Record<string, unknown> = {};
  for (const [name, schema] of settingEntries) {
    const raw = readRaw(name, schema, environment, readFile, problems);
    const value = raw === undefined ? schema.default : parseSetting(schema, raw);
    if (value === undefined) continue;
    values[name] = value;
    const wrong = new Set([...Value.Errors(schema, value)].map((error) => error.value));
    for (const part of wrong) problems.push(`${name}: ${describeError(schema, part)}`);
  }
  const config = values as Settings;
  if (config.DATABASE_URL && !problems.some((problem) => problem.startsWith("DATABASE_URL: ")))
    problems.push(...findUrlProblems(config.DATABASE_URL));
  problems.push(...findContradictions(config, hasPrice), ...findMissingFiles(config, readFile, isFolder));
  if (problems.length > 0) throw new ConfigError(problems);
  const REGISTRATION = config.REGISTRATION ?? (config.APP_ENV === "production" ? "closed" : "open");
  return Object.freeze({ ...config, REGISTRATION });
}

function readRaw(
  name: string,
  schema: SettingOptions,
  environment: Environment,
  readFile: ReadFile,
  problems: string[],
): string | undefined {
  const direct = environment[name]?.trim() || undefined;
  const file = schema.secret ? environment[`${name}_FILE`] : undefined;
  if (!file) return direct;
  if (direct) problems.push(`${name} and ${name}_FILE are both set; keep one of them.`);
  try {
    return readFile(file).trim() || undefined;
  } catch {
    problems.push(`${name}_FILE: the file cannot be read.`);
    return undefined;
  }
}

function parseSetting(schema: TSchema, raw: string): unknown {
  if (schema.type === "integer") return /^-?\d+$/.test(raw) ? Number(raw) : raw;
  if (schema.type === "number") return /^\d+(\.\d+)?$/.test(raw) ? Number(raw) : raw;
  if (schema.type !== "array") return raw;
  return raw
    .split(",")
    .map((part) => part.trim())
    .filter((part) => part !== "");
}

function describeError(schema: TSchema & SettingOptions, value: unknown): string {
  const shown = schema.secret ? "the value" : JSON.stringify(value);
  if (schema.type === "integer") return `${shown} is not a whole number from ${schema.minimum} to ${schema.maximum}.`;
  if (schema.type === "number") return `${shown} is not a number from ${schema.minimum} to ${schema.maximum}.`;
  if (schema.enum) return `${shown} is not one of ${schema.enum.join(", ")}.`;
  if (schema.minLength > 1) return `${shown} is shorter than ${schema.minLength} characters.`;
  const form = schema.example ? ` (like ${schema.example})` : "";
  return `${shown} does not have the expected form${form}.`;
}
