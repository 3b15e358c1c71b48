import type { TSchema } from "@sinclair/typebox";
import { Value } from "@sinclair/typebox/value";
import { findBackupProblems } from "./config/backup.ts";
import { explainValue } from "./config/explain-value.ts";
import { listMcpSettings } from "./config/mcp.ts";
import { listProviderSettings } from "./config/provider-settings.ts";
import { listDefaultModels } from "./config/providers.ts";
import type { NamedServers, SettingEntry } from "./config/setting-entries.ts";
import { findFileProblems, findSettingProblems, type HasPrice, type ReadFile } from "./config/setting-problems.ts";
import { type SettingOptions, type Settings, settingEntries } from "./config/settings.ts";

export { findBackupDir } from "./config/backup.ts";
export { formatConfig, formatConfigTable, formatEnvExample, type SettingSources } from "./config/format-config.ts";
export { listSecrets } from "./config/secrets.ts";

/** The validated, frozen configuration. Its properties have the names of the environment variables. */
export type Config = Readonly<
  Settings & { REGISTRATION: "open" | "closed"; MEMBER_BY_EMAIL: "on" | "off"; LOG_FORMAT: "json" | "pretty" }
>;

export class ConfigError extends Error {
  /** @param servers the servers in the settings, whose own settings are not reported as unknown. */
  constructor(
    readonly problems: string[],
    readonly servers: NamedServers = {},
  ) {
    super(problems.join("\n"));
    this.name = "ConfigError";
  }
}

type Environment = Record<string, string | undefined>;

/**
 * Loads the configuration from environment variables.
 * @param findUrlProblems returns the problems with DATABASE_URL.
 * @param findFolderProblem returns why a folder isn't writable, or null if it is.
 * @throws ConfigError with a message for each problem.
 */
export function loadConfig(
  environment: Environment,
  readFile: ReadFile,
  isFolder: (path: string) => boolean = () => true,
  hasPrice: HasPrice = () => true,
  findUrlProblems: (url: string) => string[] = () => [],
  findFolderProblem: (path: string) => string | null = () => null,
): Config {
  const problems: string[] = [];
  const values: Record<string, unknown> = {};
  const quotedSettingPrefixes: string[] = [];
  function loadSetting([name, schema]: SettingEntry): void {
    const rawValue = findRawValue(name, schema, environment, readFile, problems);
    const value = rawValue === undefined ? schema.default : parseSetting(schema, rawValue);
    if (value === undefined) return;
    if (rawValue !== undefined && isQuoted(rawValue) && !quotableSettings.has(name)) {
      problems.push(`${name}: the value is in quotes, which would be part of it; remove the quotes.`);
      // Continues with the unquoted value, to avoid further errors about a missing value.
      quotedSettingPrefixes.push(`${name}: `);
      values[name] = parseSetting(schema, rawValue.slice(1, -1));
      return;
    }
    values[name] = value;
    const invalidValues = new Set([...Value.Errors(schema, value)].map((error) => error.value));
    for (const part of invalidValues) problems.push(`${name}: ${explainValue(name, schema, part)}`);
  }
  settingEntries.forEach(loadSetting);
  const config = values as Settings;
  listProviderSettings(config.AI_PROVIDERS).forEach(loadSetting);
  listMcpSettings(config.MCP_SERVERS).forEach(loadSetting);
  if (config.AI_MODELS.length === 0) config.AI_MODELS = listDefaultModels(config);
  if (config.DATABASE_URL && !problems.some((problem) => problem.startsWith("DATABASE_URL: ")))
    problems.push(...findUrlProblems(config.DATABASE_URL));
  const isNotQuoted = (problem: string) => !quotedSettingPrefixes.some((prefix) => problem.startsWith(prefix));
  problems.push(...findSettingProblems(config, hasPrice).filter(isNotQuoted));
  problems.push(...findFileProblems(config, readFile, isFolder).filter(isNotQuoted));
  if (!problems.some((problem) => problem.startsWith("BACKUP_")))
    problems.push(...findBackupProblems(config, findFolderProblem));
  if (problems.length > 0)
    throw new ConfigError(problems, { AI_PROVIDERS: config.AI_PROVIDERS, MCP_SERVERS: config.MCP_SERVERS });
  const REGISTRATION = config.REGISTRATION ?? (config.APP_ENV === "production" ? "closed" : "open");
  const MEMBER_BY_EMAIL = config.MEMBER_BY_EMAIL ?? (config.REGISTRATION_PRIVACY === "on" ? "off" : "on");
  return Object.freeze({ ...config, REGISTRATION, MEMBER_BY_EMAIL, LOG_FORMAT: config.LOG_FORMAT ?? "json" });
}

/** Secrets that can be any string, even one in quotes. */
const quotableSettings = new Set<string>(["JWT_SECRET", "ADMIN_PASSWORD"]);
const isQuoted = (raw: string): boolean => /^(["'`]).*\1$|^[“„‘].*[”“’]$/s.test(raw);

function findRawValue(
  name: string,
  schema: SettingOptions,
  environment: Environment,
  readFile: ReadFile,
  problems: string[],
): string | undefined {
  const value = findVariable(name, schema, environment);
  const file = schema.secret ? environment[`${name}_FILE`] : undefined;
  if (!file) return value;
  if (value) problems.push(`${name} and ${name}_FILE are both set; keep one of them.`);
  try {
    // An empty file counts as unset, like an empty value, because Compose files also list optional secrets.
    const text = readFile(file).trim() || undefined;
    if (text === undefined && schema.protectsAccess)
      problems.push(`${name}_FILE: the file is empty; write the value into it, or unset ${name}_FILE.`);
    return text;
  } catch {
    // The value isn't shown, because it may be the secret itself instead of a path.
    problems.push(`${name}_FILE: the file can't be read; use an existing file that Parley's user can read.`);
    return undefined;
  }
}

function findVariable(name: string, { isSystemWide }: SettingOptions, environment: Environment): string | undefined {
  const lowercase = isSystemWide ? environment[name.toLowerCase()]?.trim() : undefined;
  return environment[name]?.trim() || lowercase || undefined;
}

function parseSetting(schema: TSchema, raw: string): unknown {
  // Like other programs, Parley accepts a proxy without a scheme.
  if (schema.format === "proxy-url" && !raw.includes("://")) return `http://${raw}`;
  if (schema.type === "integer") return /^-?\d+$/.test(raw) ? Number(raw) : raw;
  if (schema.type === "number") return /^\d+(\.\d+)?$/.test(raw) ? Number(raw) : raw;
  if (schema.type !== "array") return raw;
  // Like other programs, Parley also accepts spaces as separators in NO_PROXY.
  return raw
    .split(schema.items.format === "no-proxy" ? /[\s,]+/ : ",")
    .map((part) => part.trim())
    .filter((part) => part !== "");
}
