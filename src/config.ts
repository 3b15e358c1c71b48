import type { TSchema } from "@sinclair/typebox";
import { Value } from "@sinclair/typebox/value";
import { findBackupProblems } from "./config/backup.ts";
import { findContradictions, findMissingFiles, type HasPrice, type ReadFile } from "./config/contradictions.ts";
import { explainValue } from "./config/explain-value.ts";
import { listMcpSettings } from "./config/mcp.ts";
import { listProviderSettings } from "./config/provider-settings.ts";
import { listDefaultModels } from "./config/providers.ts";
import type { NamedServers, SettingEntry } from "./config/setting-entries.ts";
import { type SettingOptions, type Settings, settingEntries } from "./config/settings.ts";

export { findBackupDir } from "./config/backup.ts";
export { formatConfig, formatConfigTable, formatEnvExample, type SettingSources } from "./config/format-config.ts";
export { listSecrets } from "./config/secrets.ts";

/** The validated, frozen configuration. Its names are those of the environment, so that a search finds every use. */
export type Config = Readonly<
  Settings & { REGISTRATION: "open" | "closed"; MEMBER_BY_EMAIL: "on" | "off"; LOG_FORMAT: "json" | "pretty" }
>;

export class ConfigError extends Error {
  /** @param named the servers that could be read from the settings; names of their own settings aren't reported as unknown. */
  constructor(
    readonly problems: string[],
    readonly named: NamedServers = {},
  ) {
    super(problems.join("\n"));
    this.name = "ConfigError";
  }
}

type Environment = Record<string, string | undefined>;

/**
 * Builds the configuration from environment variables.
 * @param findUrlProblems returns the problems with DATABASE_URL.
 * @param findFolderProblem returns why a folder isn't writable; null if it is.
 * @throws ConfigError with every problem found, one sentence each.
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
  const quoted: string[] = [];
  function read([name, schema]: SettingEntry): void {
    const raw = readRaw(name, schema, environment, readFile, problems);
    const value = raw === undefined ? schema.default : parseSetting(schema, raw);
    if (value === undefined) return;
    if (raw !== undefined && isQuoted(raw) && !mayBeQuoted.has(name)) {
      problems.push(`${name}: the value is in quotes, which would be part of it; remove the quotes.`);
      // Continues with the unquoted value, so that no further errors are reported because it is missing.
      quoted.push(`${name}: `);
      values[name] = parseSetting(schema, raw.slice(1, -1));
      return;
    }
    values[name] = value;
    const wrong = new Set([...Value.Errors(schema, value)].map((error) => error.value));
    for (const part of wrong) problems.push(`${name}: ${explainValue(name, schema, part)}`);
  }
  settingEntries.forEach(read);
  const config = values as Settings;
  listProviderSettings(config.AI_PROVIDERS).forEach(read);
  listMcpSettings(config.MCP_SERVERS).forEach(read);
  if (config.AI_MODELS.length === 0) config.AI_MODELS = listDefaultModels(config);
  if (config.DATABASE_URL && !problems.some((problem) => problem.startsWith("DATABASE_URL: ")))
    problems.push(...findUrlProblems(config.DATABASE_URL));
  const isNew = (problem: string) => !quoted.some((start) => problem.startsWith(start));
  problems.push(...findContradictions(config, hasPrice).filter(isNew));
  problems.push(...findMissingFiles(config, readFile, isFolder).filter(isNew));
  if (!problems.some((problem) => problem.startsWith("BACKUP_")))
    problems.push(...findBackupProblems(config, findFolderProblem));
  if (problems.length > 0)
    throw new ConfigError(problems, { AI_PROVIDERS: config.AI_PROVIDERS, MCP_SERVERS: config.MCP_SERVERS });
  const REGISTRATION = config.REGISTRATION ?? (config.APP_ENV === "production" ? "closed" : "open");
  const MEMBER_BY_EMAIL = config.MEMBER_BY_EMAIL ?? (config.REGISTRATION_PRIVACY === "on" ? "off" : "on");
  return Object.freeze({ ...config, REGISTRATION, MEMBER_BY_EMAIL, LOG_FORMAT: config.LOG_FORMAT ?? "json" });
}

/** Secrets that may be any string, including one in quotes. */
const mayBeQuoted = new Set<string>(["JWT_SECRET", "ADMIN_PASSWORD"]);
const isQuoted = (raw: string): boolean => /^(["'`]).*\1$|^[“„‘].*[”“’]$/s.test(raw);

function readRaw(
  name: string,
  schema: SettingOptions,
  environment: Environment,
  readFile: ReadFile,
  problems: string[],
): string | undefined {
  const direct = readDirect(name, schema, environment);
  const file = schema.secret ? environment[`${name}_FILE`] : undefined;
  if (!file) return direct;
  if (direct) problems.push(`${name} and ${name}_FILE are both set; keep one of them.`);
  try {
    // Like an empty value, an empty file means "not set", because Compose files also list secrets that are optional.
    const text = readFile(file).trim() || undefined;
    if (text === undefined && schema.isGuard)
      problems.push(`${name}_FILE: the file is empty; write the value into it, or unset ${name}_FILE.`);
    return text;
  } catch {
    // The value isn't shown, because it may be the secret itself instead of a path.
    problems.push(`${name}_FILE: the file can't be read; use a file that exists and that this user may read.`);
    return undefined;
  }
}

function readDirect(name: string, { isSystemWide }: SettingOptions, environment: Environment): string | undefined {
  const lowercase = isSystemWide ? environment[name.toLowerCase()]?.trim() : undefined;
  return environment[name]?.trim() || lowercase || undefined;
}

function parseSetting(schema: TSchema, raw: string): unknown {
  // A proxy without a scheme is accepted, as other programs do.
  if (schema.format === "proxy-url" && !raw.includes("://")) return `http://${raw}`;
  if (schema.type === "integer") return /^-?\d+$/.test(raw) ? Number(raw) : raw;
  if (schema.type === "number") return /^\d+(\.\d+)?$/.test(raw) ? Number(raw) : raw;
  if (schema.type !== "array") return raw;
  // Spaces are accepted as separators too, as in other programs.
  return raw
    .split(schema.items.format === "no-proxy" ? /[\s,]+/ : ",")
    .map((part) => part.trim())
    .filter((part) => part !== "");
}
